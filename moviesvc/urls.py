"""Which URLs does the service have?"""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.decorators.http import require_safe
from django.views.generic import TemplateView

from moviesvc.metrics import view
from tasks_app.media import serve
from webhooks_app.urls import well_known_patterns

admin.site.index_template = "moviesvc/dashboard.html"
admin.site.index_title = "Dashboard"
handler403 = "moviesvc.problems.not_allowed"
handler404 = "moviesvc.problems.page_not_found"
handler500 = "moviesvc.problems.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    # Most used first: patterns are tried in this order.
    path("api/v1/", include("tasks_app.urls")),
    path("api/v1/", include("webhooks_app.urls")),
    path("", require_safe(TemplateView.as_view(template_name="moviesvc/home.html"))),
    path("metrics", view.metrics),
    path("admin/", admin.site.urls),
    path("media/<str:media_id>/<str:token>/<str:name>", serve.serve),
    path("", include((well_known_patterns, "well_known"))),
]
