"""Which addresses does the webhook API have? Those below, wherever they are included."""

from django.urls import path

from webhooks_app.api import credentials, deliveries, endpoints, feed, messages, replays, secrets
from webhooks_app.api.operators import destinations, record

app_name = "webhooks"
urlpatterns = [
    path("webhooks/messages", messages.MessageListView.as_view()),
    path("webhooks/messages/set-aside", messages.SetAsideView.as_view()),
    path("webhooks/messages/<str:message_id>", messages.MessageView.as_view(), name="message"),
    path("webhooks/messages/<str:message_id>/replay", replays.MessageReplayView.as_view()),
    path("webhooks/messages/<str:message_id>/set-aside", messages.MessageSetAsideView.as_view()),
    path("webhooks/deliveries", deliveries.DeliveryListView.as_view()),
    path("webhooks/replays", replays.ReplayListView.as_view()),
    path("webhooks/replays/<str:replay_id>", replays.ReplayView.as_view(), name="replay"),
    path("webhooks/replays/<str:replay_id>/cancel", replays.ReplayCancelView.as_view()),
    path("webhooks/endpoints", endpoints.EndpointListView.as_view()),
    path("webhooks/endpoints/<str:endpoint_id>", endpoints.EndpointView.as_view(), name="endpoint"),
    path("webhooks/endpoints/<str:endpoint_id>/ping", endpoints.EndpointPingView.as_view()),
    path("webhooks/endpoints/<str:endpoint_id>/dry-run", endpoints.EndpointDryRunView.as_view()),
    path("webhooks/destinations", destinations.DestinationListView.as_view()),
    path("webhooks/destinations/<str:destination_id>", destinations.DestinationView.as_view()),
    *(
        path(f"webhooks/destinations/<str:destination_id>/{act}", view.as_view())
        for act, view in destinations.ACT_VIEWS.items()
    ),
    path("webhooks/credentials", credentials.CredentialListView.as_view()),
    path(
        "webhooks/credentials/<str:credential_id>",
        credentials.CredentialView.as_view(),
        name="credential",
    ),
    path("webhooks/credentials/<str:credential_id>/test", credentials.CredentialTestView.as_view()),
    path("webhooks/signing-secret", secrets.SecretView.as_view()),
    path("webhooks/signing-secret/rotate", secrets.SecretRotateView.as_view()),
    path("webhooks/operator-actions", record.ActionListView.as_view()),
    path("webhooks/events", feed.EventListView.as_view()),
    path("webhooks/events/ack", feed.AcknowledgeView.as_view()),
]
# At the root of the site, where RFC 8615 puts it.
well_known_patterns = [
    path(".well-known/webhooks-jwks.json", secrets.JwksView.as_view()),
]
