"""Which addresses does the task API have? All under ``/api/v1/``."""

from django.urls import path

from tasks_app import openapi, views, views_events, views_health, views_webhooks

urlpatterns = [
    path("tasks", views.TaskListView.as_view()),
    path("tasks/submit", views.SubmitView.as_view()),
    path("tasks/metrics", views_health.MetricsView.as_view()),
    path("tasks/<str:task_id>", views.TaskView.as_view()),
    path("tasks/<str:task_id>/status", views.TaskStatusView.as_view()),
    path("tasks/<str:task_id>/cancel", views.CancelView.as_view()),
    path("tasks/<str:task_id>/retry", views.RetryView.as_view()),
    path("tasks/<str:task_id>/events", views_events.TaskEventsView.as_view()),
    path("tasks/<str:task_id>/webhooks", views_webhooks.TaskWebhooksView.as_view()),
    path("projects/<str:project_id>/tasks", views.ProjectTaskListView.as_view()),
    path("schema", openapi.schema),
    path("docs", openapi.DocsView.as_view()),
    path("health", views_health.LiveView.as_view()),
    path("health/ready", views_health.ReadyView.as_view()),
]
