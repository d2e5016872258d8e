"""What can an operator do with receivers: see how they stand, pause, disable or mute them?"""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webhooks_app.api.access import actor_of, within
from webhooks_app.api.fields import Choice, Flag, Named, ProjectId, Text, Whole
from webhooks_app.api.openapi import extend_schema, inline_serializer
from webhooks_app.api.pages import PageQuery, page_of, page_response
from webhooks_app.api.problems import FieldProblem, invalid
from webhooks_app.api.read import StrictObject, found_row, read_body, read_id, read_query
from webhooks_app.api.view import WebhookView
from webhooks_app.egress import MAX_URL_LENGTH
from webhooks_app.models import WebhookDestination
from webhooks_app.operators import destinations
from webhooks_app.operators.destinations import LONGEST, MAX_MUTE_SECONDS, MAX_PAUSE_SECONDS, Act
from webhooks_app.operators.explain import standing
from webhooks_app.outbox import who

SAMPLE = 25
_STATES = {
    "disabled": Q(disabled_at__isnull=False),
    "held": Q(disabled_at=None, held_until__gt=Now()),
    "failing": Q(failing_messages__gt=0),
    "muted": Q(muted_until__gt=Now()),
}


class Where(StrictObject):
    """Which destinations; without a receiver and a project every one that the key may see."""

    host = Named(
        who.read_place,
        required=False,
        max_length=MAX_URL_LENGTH,
        help_text="The receiver: a host, host:port, origin or URL.",
    )
    project_id = ProjectId(required=False)


class DestinationQuery(PageQuery, Where):
    """The query string of the list of destinations."""

    state = Choice(list(_STATES), required=False)


class ReasonRequest(StrictObject):
    """The body of what is done to a destination."""

    reason = Text(required=False, allow_blank=True, max_length=500)


class PauseRequest(ReasonRequest):
    """The body of a pause."""

    seconds = Whole(1, MAX_PAUSE_SECONDS, help_text="It ends by itself.")


class MuteRequest(ReasonRequest):
    """The body of muting a destination."""

    seconds = Whole(1, MAX_MUTE_SECONDS, help_text="It ends by itself.")


class DestinationsRequest(ReasonRequest, Where):
    """The body of what is done to many destinations."""

    action = Choice([str(act) for act in Act])
    all = Flag(required=False, default=False, help_text="Needed where no `host` is given.")
    seconds = Whole(
        1,
        MAX_MUTE_SECONDS,
        required=False,
        help_text=f"Needed for `pause` (at most {MAX_PAUSE_SECONDS}) and `mute`; not for others.",
    )
    dry_run = Flag(required=False, default=False, help_text="Only count, and show the first.")


class DestinationSerializer(serializers.ModelSerializer[WebhookDestination]):
    """One origin as one project sees it."""

    project_id = serializers.CharField(source="scope")
    origin = serializers.CharField()
    state = serializers.SerializerMethodField()
    held_because = serializers.CharField(source="hold_reason")

    class Meta:
        model = WebhookDestination
        fields: tuple[str, ...] = (
            "id",
            "project_id",
            "origin",
            "state",
            "held_until",
            "held_because",
            "disabled_at",
            "disabled_reason",
            "breaker_state",
            "failing_messages",
            "max_in_flight",
            "muted_until",
            "last_success_at",
            "last_failure_at",
        )

    def get_state(self, row: WebhookDestination) -> str:
        return standing(row, timezone.now())[1]


CHANGED = inline_serializer(
    "DestinationsChanged",
    {
        "dry_run": serializers.BooleanField(),
        "count": serializers.IntegerField(help_text="Those that it changes, or would."),
        "projects": serializers.IntegerField(help_text="Of so many projects."),
        "sample": DestinationSerializer(many=True),
    },
)


class DestinationListView(WebhookView):
    """Destinations."""

    actions = {"GET": "admin", "POST": "admin"}

    @extend_schema(
        operation_id="listDestinations",
        parameters=[DestinationQuery],
        responses=page_of("DestinationPage", DestinationSerializer),
    )
    def get(self, request: Request) -> Response:
        """List destinations and how they stand."""
        asked = read_query(request, DestinationQuery)
        found = within(request, WebhookDestination.objects.all())
        if "host" in asked:
            found = found.filter(who.read_place(asked["host"]).condition)
        if "project_id" in asked:
            found = found.filter(scope=asked["project_id"])
        if "state" in asked:
            found = found.filter(_STATES[asked["state"]])
        return page_response(request, found, asked, DestinationSerializer)

    @extend_schema(
        operation_id="changeDestinations", request=DestinationsRequest, responses=CHANGED
    )
    def post(self, request: Request) -> Response:
        """Pause, disable or mute one origin over all projects, or undo it; or all of them."""
        asked = read_body(request, DestinationsRequest)
        act = Act(asked["action"])
        _check(asked, act)
        place = who.read_place(asked["host"]) if "host" in asked else None
        rows = within(request, destinations.meant(act, place, asked.get("project_id")))
        sample = list(rows.order_by("host", "scope")[:SAMPLE])
        projects = rows.values("scope").distinct().count()
        if asked["dry_run"]:
            count = rows.count()
        else:
            count = _do(request, act, rows, asked)
            pks = [row.pk for row in sample]
            again = WebhookDestination.objects.filter(pk__in=pks)
            sample = list(again.order_by("host", "scope"))
        body = {"dry_run": asked["dry_run"], "count": count, "projects": projects}
        return Response({**body, "sample": DestinationSerializer(sample, many=True).data})


class DestinationView(WebhookView):
    """One destination."""

    actions = {"GET": "admin"}

    @extend_schema(operation_id="getDestination", responses=DestinationSerializer)
    def get(self, request: Request, destination_id: str) -> Response:
        """Show how a destination stands."""
        return Response(DestinationSerializer(_find(request, destination_id).get()).data)


def _view(act: Act, form: type[ReasonRequest], summary: str) -> type[WebhookView]:
    """Return the view that does one thing to one destination; also where it is so already."""

    class ActView(WebhookView):
        __doc__ = f"{act.capitalize()} one."
        actions = {"POST": "admin"}

        @extend_schema(
            operation_id=f"{act}Destination",
            description=summary,
            request=form,
            responses=DestinationSerializer,
        )
        def post(self, request: Request, destination_id: str) -> Response:
            rows = _find(request, destination_id)
            _do(request, act, rows, read_body(request, form))
            return Response(DestinationSerializer(rows.get()).data)

    return ActView


#: What can be done to one destination, each at a path of its own.
ACT_VIEWS = {
    act: _view(act, form, summary)
    for act, form, summary in (
        (Act.PAUSE, PauseRequest, "Hold back what is owed there for a time; no retry is lost."),
        (Act.RESUME, ReasonRequest, "End a pause, or let an open breaker try again at once."),
        (
            Act.DISABLE,
            ReasonRequest,
            "Send nothing there until it is enabled; what waits there becomes dead letters.",
        ),
        (Act.ENABLE, ReasonRequest, "Send there again; its dead letters wait for a replay."),
        (Act.MUTE, MuteRequest, "Tell nobody for a time that it fails; send there as before."),
        (Act.UNMUTE, ReasonRequest, "Tell again when it fails."),
    )
}


def _do(
    request: Request, act: Act, rows: QuerySet[WebhookDestination], asked: dict[str, Any]
) -> int:
    return destinations.act_on(
        act,
        rows,
        actor=actor_of(request),
        reason=asked.get("reason", ""),
        seconds=asked.get("seconds", 0),
    )


def _check(asked: dict[str, Any], act: Act) -> None:
    problems: list[FieldProblem] = []
    most = LONGEST.get(act)
    if most and "seconds" not in asked:
        problems.append({"pointer": "/seconds", "code": "required", "message": "Say how long."})
    elif most and asked["seconds"] > most:
        text = f"Must be from 1 to {most} seconds for {act}."
        problems.append({"pointer": "/seconds", "code": "out_of_range", "message": text})
    elif not most and "seconds" in asked:
        text = f"Only {' and '.join(LONGEST)} end by themselves."
        problems.append({"pointer": "/seconds", "code": "not_allowed", "message": text})
    if "host" not in asked and not asked["all"]:
        text = 'Name a receiver, or say "all": true.'
        problems.append({"pointer": "/host", "code": "required", "message": text})
    if problems:
        raise invalid(problems)


def _find(request: Request, text: str) -> QuerySet[WebhookDestination]:
    """Return one destination, as a query; 404 if it is absent or another project's."""
    rows = within(request, WebhookDestination.objects.filter(pk=read_id(text)))
    found_row(rows)
    return rows
