"""Which addresses does the webhook API have? Those of ``urlpatterns`` under ``/api/v1/``."""

from django.urls import path

from webhooks_app import (
    views,
    views_endpoints,
    views_events,
    views_replays,
    views_secrets,
)

urlpatterns = [
    path("webhooks/messages", views.MessageListView.as_view()),
    path("webhooks/messages/<str:message_id>", views.MessageView.as_view()),
    path("webhooks/messages/<str:message_id>/replay", views_replays.MessageReplayView.as_view()),
    path("webhooks/deliveries", views.DeliveryListView.as_view()),
    path("webhooks/replays", views_replays.ReplayListView.as_view()),
    path("webhooks/replays/<str:replay_id>", views_replays.ReplayView.as_view()),
    path("webhooks/replays/<str:replay_id>/cancel", views_replays.ReplayCancelView.as_view()),
    path("webhooks/endpoints", views_endpoints.EndpointListView.as_view()),
    path("webhooks/endpoints/<str:endpoint_id>", views_endpoints.EndpointView.as_view()),
    path("webhooks/endpoints/<str:endpoint_id>/ping", views_endpoints.EndpointPingView.as_view()),
    path("webhooks/signing-secret", views_secrets.SecretView.as_view()),
    path("webhooks/signing-secret/rotate", views_secrets.SecretRotateView.as_view()),
    path("webhooks/events", views_events.EventListView.as_view()),
    path("webhooks/events/ack", views_events.AcknowledgeView.as_view()),
]
# At the root of the site, where RFC 8615 puts it.
well_known_patterns = [
    path(".well-known/webhooks-jwks.json", views_secrets.JwksView.as_view()),
]
