"""Which addresses does the shop answer to?"""

from django.contrib import admin
from django.urls import include, path

from webhooks_app.urls import well_known_patterns

urlpatterns = [
    path("admin/", admin.site.urls),
    path("shop/api/", include("webhooks_app.urls")),
    path("", include((well_known_patterns, "well_known"))),
]
