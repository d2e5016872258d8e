"""Which addresses does the webhook API have? Those of ``urlpatterns`` under ``/api/v1/``."""

from django.urls import path

from webhooks_app import views, views_endpoints

urlpatterns = [
    path("webhooks/messages", views.MessageListView.as_view()),
    path("webhooks/messages/<str:message_id>", views.MessageView.as_view()),
    path("webhooks/messages/<str:message_id>/replay", views.MessageReplayView.as_view()),
    path("webhooks/deliveries", views.DeliveryListView.as_view()),
    path("webhooks/replays", views.ReplayListView.as_view()),
    path("webhooks/replays/<str:replay_id>", views.ReplayView.as_view()),
    path("webhooks/replays/<str:replay_id>/cancel", views.ReplayCancelView.as_view()),
    path("webhooks/endpoints", views_endpoints.EndpointListView.as_view()),
    path("webhooks/endpoints/<str:endpoint_id>", views_endpoints.EndpointView.as_view()),
    path("webhooks/endpoints/<str:endpoint_id>/ping", views_endpoints.EndpointPingView.as_view()),
    path("webhooks/signing-secret", views_endpoints.SecretView.as_view()),
    path("webhooks/signing-secret/rotate", views_endpoints.SecretRotateView.as_view()),
    path("webhooks/events", views_endpoints.EventListView.as_view()),
    path("webhooks/events/ack", views_endpoints.AcknowledgeView.as_view()),
]
# At the root of the site, where RFC 8615 puts it.
well_known_patterns = [
    path(".well-known/webhooks-jwks.json", views_endpoints.JwksView.as_view()),
]
