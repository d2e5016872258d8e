"""What can a client do with tasks? Thin: parse the request, call `tasks_app.state`, answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app.access.authentication import access_of, scoped
from tasks_app.api import queries, repeats
from tasks_app.api.assets.views import quota_exceeded
from tasks_app.api.json_format import JsonObject
from tasks_app.api.openapi.hooks import (
    IDEMPOTENCY_KEY,
    SEED_EXAMPLE,
    SUBMIT_REQUEST,
    TRACEPARENT,
    operation,
)
from tasks_app.api.task_answer import many_tasks, one_task
from tasks_app.api.task_inputs import as_problems
from tasks_app.api.task_requests import read_submit
from tasks_app.models import Task
from tasks_app.state import lifecycle
from tasks_app.state.assets import QuotaExceeded
from tasks_app.state.costs import BudgetExhausted
from tasks_app.state.idempotency import IdempotencyConflict
from tasks_app.state.inputs import BadInputs, values_of
from tasks_app.state.submit import (
    NotRetryable,
    QueueFull,
    Submission,
    Submit,
    retry,
    submit,
    taken_before,
)
from webhooks_app import traces
from webhooks_app.api.access import check_host
from webhooks_app.api.messages import MessageDetailSerializer, for_answers
from webhooks_app.api.pages import (
    BY_TIME,
    OLDEST_FIRST,
    PageQuery,
    page_of,
    page_response,
)
from webhooks_app.api.problems import ApiProblem, FieldProblem, invalid, not_found
from webhooks_app.api.read import read_query
from webhooks_app.models import WebhookMessage
from webhooks_app.notation import PROJECT_ID

#: Retry-After for a full queue, in seconds.
QUEUE_RETRY_SECONDS = 10


def request_id_of(request: Request) -> str:
    """Return the request's id, as in the log."""
    return str(getattr(request._request, "request_id", ""))


def traceparent_of(request: Request) -> str:
    """Return the trace that a new task belongs to: the client's, or a new one."""
    given = request.META.get("HTTP_TRACEPARENT", "")
    traceparent = traces.read(given) or traces.new()
    structlog.contextvars.bind_contextvars(**traces.log_fields(traceparent))
    return traceparent


class SubmitView(APIView):
    """Take a task."""

    actions = {"POST": "submit"}

    @operation(
        "submitTask",
        "Submit a task",
        "Submission",
        status=201,
        request=SUBMIT_REQUEST,
        parameters=[IDEMPOTENCY_KEY, TRACEPARENT],
        examples=[SEED_EXAMPLE],
        may_cost=True,
    )
    def post(self, request: Request) -> Response:
        """Validate everything, store one row, send one ticket."""
        document, access = request.data, access_of(request)
        if document == {} and not isinstance(document, JsonObject):
            raise ParseError("Not a JSON document: the body is empty.")
        raw = document.raw if isinstance(document, JsonObject) else {}
        values, problems = read_submit(document, raw, access.key.callback_hosts, access.scope)
        key = repeats.idempotency_key(request, problems)
        if problems:
            # What was taken stays taken, whatever has changed since: a credential, a provider.
            if key and (submission := _taken_before(request, document, key)):
                return _answer(submission)
            raise invalid(problems)
        if access.scope not in (None, values["project_id"]):
            detail = f"This key submits to its own project only, {access.scope}."
            raise ApiProblem(403, "other_project", detail)
        asked = Submit(
            **{**values, "metadata": raw.get("metadata")},
            inputs=values_of(values["task_data"]),
            api_key=access.key,
            idempotency_key=key,
            fingerprint=repeats.fingerprint(request, document) if key else "",
            request_id=request_id_of(request),
            traceparent=traceparent_of(request),
        )
        with _refusals():
            return _answer(submit(asked))


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer what `submit` and `retry` refuse with a problem."""
    try:
        yield
    except NotRetryable as refused:
        raise _conflict("not_retryable", str(refused), refused.task) from None
    except IdempotencyConflict:
        raise repeats.conflict() from None
    except QueueFull as full:
        raise queue_full(full) from None
    except BudgetExhausted as refused:
        raise budget_exhausted(refused) from None
    except BadInputs as bad:  # deleted or failed since they were looked at
        raise invalid(as_problems(bad.problems)) from None
    except QuotaExceeded as full:
        raise quota_exceeded(full) from None


def _taken_before(request: Request, document: Any, key: str) -> Submission | None:
    """Return the answer to a request that would be refused now, but was taken before."""
    project_id = document.get("project_id") if isinstance(document, Mapping) else None
    scope = access_of(request).scope
    if not isinstance(project_id, str) or scope not in (None, project_id):
        return None
    try:
        return taken_before(project_id, key, repeats.fingerprint(request, document))
    except IdempotencyConflict:
        return None  # what is wrong with this one is the better answer


def _answer(submission: Submission, **more: str) -> Response:
    headers = {"Location": f"/api/v1/tasks/{submission.response['task_id']}"}
    if submission.is_replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response({**submission.response, **more}, 201, headers=headers)


def queue_full(full: QueueFull) -> ApiProblem:
    """Return the 429 for a project that has reached its quota of queued tasks."""
    detail = f"This project already has {full.limit} queued tasks, which is its quota."
    headers = {"Retry-After": str(QUEUE_RETRY_SECONDS)}
    return ApiProblem(429, "queue_full", detail, headers=headers)


def budget_exhausted(refused: BudgetExhausted) -> ApiProblem:
    """Return the 402 for a task that a budget has no room for; it says what is left."""
    left, needed = refused.left.told(), refused.needed.told()
    owner = "API key" if refused.owner == "key" else "project"
    detail = (
        f"The {owner}'s budget for this month has {left['amount']} {left['currency']} left,"
        f" and this task is expected to cost {needed['amount']} {needed['currency']}."
    )
    extra = {"budget_of": refused.owner, "left": left, "estimated_cost": needed}
    return ApiProblem(402, "budget_exhausted", detail, extra=extra)


class TaskListView(APIView):
    """List tasks, newest first."""

    @operation(
        "listTasks", "List tasks, newest first", "TaskPage", parameters=[queries.AllTaskFilters]
    )
    def get(self, request: Request) -> Response:
        """Return one page of what the key may see."""
        asked = read_query(request, queries.AllTaskFilters)
        return _list(request, scoped(Task.objects.all(), access_of(request)), asked)


class ProjectTaskListView(APIView):
    """List the tasks of one project, newest first."""

    @operation(
        "listProjectTasks",
        "List a project's tasks, newest first",
        "TaskPage",
        parameters=[queries.TaskFilters],
    )
    def get(self, request: Request, project_id: str) -> Response:
        """Return one page."""
        asked = read_query(request, queries.TaskFilters)
        if not re.fullmatch(PROJECT_ID, project_id) or access_of(request).scope not in (
            None,
            project_id,
        ):
            raise not_found()
        return _list(request, Task.objects.filter(project_id=project_id), asked)


def _list(request: Request, queryset: Any, asked: dict[str, Any]) -> Response:
    found = queries.page_query(queryset, asked)
    return page_response(request, found, asked, many_tasks, order=BY_TIME)


class TaskView(APIView):
    """One task."""

    @operation("getTask", "One task", "Task")
    def get(self, request: Request, task_id: str) -> Response:
        """Return the task."""
        return Response(one_task(queries.find_task(access_of(request), task_id)))

    @operation("deleteTask", "Cancel a task", "Task", may_conflict=True)
    def delete(self, request: Request, task_id: str) -> Response:
        """Cancel the task."""
        return cancel(request, task_id)


class TaskStatusView(APIView):
    """One task, under the address that clients poll."""

    @operation("getTaskStatus", "One task", "Task")
    def get(self, request: Request, task_id: str) -> Response:
        """Return the task."""
        return Response(one_task(queries.find_task(access_of(request), task_id)))


class CancelView(APIView):
    """Cancel a task, for clients that cannot send DELETE."""

    @operation("cancelTask", "Cancel a task", "Task", may_conflict=True)
    def post(self, request: Request, task_id: str) -> Response:
        """Cancel the task."""
        return cancel(request, task_id)


def cancel(request: Request, task_id: str) -> Response:
    """Cancel a task that has not ended; its event is written in the same transaction."""
    task = queries.find_task(access_of(request), task_id)
    try:
        return Response(one_task(lifecycle.cancel(task.id)))
    except lifecycle.AlreadyEnded as ended:
        raise _conflict("already_ended", str(ended), ended.task) from None


class RetryView(APIView):
    """Do a failed or cancelled task again, as a new task."""

    @operation(
        "retryTask",
        "Do a task again",
        "Retry",
        status=201,
        parameters=[IDEMPOTENCY_KEY, TRACEPARENT],
        may_conflict=True,
        may_cost=True,
    )
    def post(self, request: Request, task_id: str) -> Response:
        """Submit the same input once more."""
        task, problems = queries.find_task(access_of(request), task_id), list[FieldProblem]()
        key = repeats.idempotency_key(request, problems)
        if problems:
            raise invalid(problems)
        if task.callback_url:
            # The first submit may have used another key.
            check_host(request, task.callback_url, "/callback_url")
        with _refusals():
            submission = retry(
                task,
                api_key=access_of(request).key,
                idempotency_key=key,
                fingerprint=repeats.fingerprint(request, {}) if key else "",
                request_id=request_id_of(request),
                traceparent=traceparent_of(request),
            )
        return _answer(submission, retry_of=str(task.id))


def _conflict(code: str, detail: str, task: Task) -> ApiProblem:
    return ApiProblem(409, code, detail, extra={"state": task.status, "task_id": str(task.id)})


class TaskWebhooksView(APIView):
    """The webhook messages of one task."""

    @extend_schema(
        operation_id="listTaskWebhooks",
        parameters=[PageQuery],
        responses=page_of("TaskWebhooksPage", MessageDetailSerializer),
    )
    def get(self, request: Request, task_id: str) -> Response:
        """List the task's messages, oldest first, each with every attempt."""
        task = queries.find_task(access_of(request), task_id)
        asked = read_query(request, PageQuery)
        return page_response(
            request,
            for_answers(
                WebhookMessage.objects.filter(event__subject=str(task.id))
            ).prefetch_related("deliveries"),
            asked,
            MessageDetailSerializer,
            order=OLDEST_FIRST,
        )
