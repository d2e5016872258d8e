"""Which addresses does the service answer to?"""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from moviesvc import pages

handler404 = "moviesvc.problems.page_not_found"
handler500 = "moviesvc.problems.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", pages.home),
    path("admin/", admin.site.urls),
    path("api/v1/", include("tasks_app.urls")),
]
if find_spec("webhooks_app.urls"):
    urlpatterns.append(path("api/v1/", include("webhooks_app.urls")))
