"""Which addresses does the task API have? All under ``/api/v1/``."""

from django.urls import path

from tasks_app.api import health, providers, stream, tasks
from tasks_app.api.assets import views as asset_views
from tasks_app.api.openapi import hooks

urlpatterns = [
    path("tasks", tasks.TaskListView.as_view()),
    path("tasks/submit", tasks.SubmitView.as_view()),
    path("tasks/metrics", health.MetricsView.as_view()),
    path("tasks/<str:task_id>", tasks.TaskView.as_view()),
    path("tasks/<str:task_id>/status", tasks.TaskStatusView.as_view()),
    path("tasks/<str:task_id>/cancel", tasks.CancelView.as_view()),
    path("tasks/<str:task_id>/retry", tasks.RetryView.as_view()),
    path("tasks/<str:task_id>/events", stream.TaskEventsView.as_view()),
    path("tasks/<str:task_id>/preview", stream.TaskPreviewView.as_view()),
    path("tasks/<str:task_id>/webhooks", tasks.TaskWebhooksView.as_view()),
    path("projects/<str:project_id>/costs", health.ProjectCostsView.as_view()),
    path("projects/<str:project_id>/tasks", tasks.ProjectTaskListView.as_view()),
    path("providers", providers.ProviderListView.as_view()),
    path("providers/<str:name>/callback/<str:token>", providers.ProviderCallbackView.as_view()),
    path("assets", asset_views.AssetListView.as_view()),
    path("assets/<str:asset_id>/complete", asset_views.AssetCompleteView.as_view()),
    path("assets/<str:asset_id>", asset_views.AssetView.as_view()),
    path("schema", hooks.schema),
    path("docs", hooks.DocsView.as_view()),
    path("health", health.LiveView.as_view()),
    path("health/ready", health.ReadyView.as_view()),
]
