"""What can a client do with assets? Hand files in, by upload or by URL, see and delete them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import assets as handed_in
from tasks_app import tickets
from tasks_app.access.authentication import Access, access_of, scoped
from tasks_app.api import repeats
from tasks_app.api.assets import uploads
from tasks_app.api.openapi.components import ref
from tasks_app.api.openapi.hooks import IDEMPOTENCY_KEY, operation
from tasks_app.failures import ASSET_ERRORS
from tasks_app.media.serve import EXTENSIONS, media_url, presigned_form
from tasks_app.media.staging import NotMedia
from tasks_app.models import SHOWN_STATES, AssetOrigin, AssetState, MediaFile
from tasks_app.state import assets
from tasks_app.state.idempotency import IdempotencyConflict, is_known, once
from webhooks_app.api.access import project_of
from webhooks_app.api.fields import (
    BIGGEST_NUMBER,
    CallbackUrl,
    Choice,
    Moment,
    ProjectId,
    Whole,
)
from webhooks_app.api.pages import BY_TIME_AND_TEXT, Cursor, PageQuery, page_response
from webhooks_app.api.problems import ApiProblem, FieldProblem, invalid, not_found
from webhooks_app.api.read import Given, Members, StrictObject, read_body, read_query
from webhooks_app.notation import PROJECT_ID, PROJECT_ID_SHAPE, rfc3339
from webhooks_app.shown import safe_url

_ID = re.compile(r"[\x21-\x7e]{1,32}")


class AssetRequest(StrictObject):
    """An asset that is not in the request itself."""

    project_id = ProjectId(required=False, help_text="Only for a key bound to no project.")
    url = CallbackUrl(required=False, help_text="Fetched by us; every redirect is judged as well.")
    upload = Choice(["presigned"], required=False, help_text="In place of a URL, with S3 only.")
    media_type = Choice(list(EXTENSIONS), required=False, help_text="Of a presigned upload.")
    size_bytes = Whole(1, BIGGEST_NUMBER, required=False, help_text="Of a presigned upload.")

    def check(self, values: Members, data: Given, errors: Members) -> None:
        """Demand a URL or all of a presigned upload."""
        if "upload" not in data:
            if "url" not in data:
                errors.setdefault("url", [ErrorDetail("This field is required.", "required")])
            for name in {"media_type", "size_bytes"} & data.keys():
                errors.setdefault(name, [ErrorDetail("Only an upload has it.", "not_allowed")])
            return
        if not settings.S3_BUCKET:
            message = "This service keeps its files itself: send a form with the file."
            errors.setdefault("upload", [ErrorDetail(message, "not_allowed")])
        if "url" in data:
            errors.setdefault("url", [ErrorDetail("Either a URL or an upload.", "not_allowed")])
        for name in {"media_type", "size_bytes"} - data.keys():
            errors.setdefault(name, [ErrorDetail("This field is required.", "required")])


class AssetCursor(Cursor):
    """The place where a page of assets begins."""

    order = BY_TIME_AND_TEXT


class AssetQuery(PageQuery):
    """The query string of the list of assets."""

    cursor = AssetCursor()
    project_id = ProjectId(required=False)
    state = Choice(SHOWN_STATES, required=False)
    origin = Choice(AssetOrigin.values, required=False)
    created_after = Moment(required=False)
    created_before = Moment(required=False)


_LOOKUPS = {"created_after": "created_at__gt", "created_before": "created_at__lt"}


def asset_body(file: MediaFile) -> dict[str, Any]:
    """Return an asset as clients see it."""
    is_ready = file.state == AssetState.READY
    expires_at = file.expires_at
    if file.task is not None and file.task.finished_at is not None:
        expires_at = file.task.finished_at + timedelta(days=settings.MEDIA_RETENTION_DAYS)
    return {
        "asset_id": file.id,
        "project_id": file.project_id,
        "state": file.state,
        "origin": file.origin,
        "task_id": str(file.task_id) if file.task_id else None,
        "role": file.role if file.task_id else None,
        "media_url": media_url(file) if is_ready else None,
        "media_type": file.media_type or None,
        "size_bytes": file.size_bytes if is_ready else None,
        "sha256": file.sha256 or None,
        "width": file.width,
        "height": file.height,
        "duration": file.duration,
        "fps": file.fps,
        "codecs": file.codecs,
        "source_url": safe_url(file.source_url) if file.source_url else None,
        "error_code": file.error_code or None,
        "error": ASSET_ERRORS.get(file.error_code),
        "created_at": rfc3339(file.created_at),
        "expires_at": rfc3339(expires_at) if expires_at else None,
    }


def _bodies(files: list[MediaFile]) -> list[dict[str, Any]]:
    return [asset_body(file) for file in files]


def find_asset(access: Access, asset_id: str) -> MediaFile:
    """Return an asset that the key may see; one that has other's bytes is that other.

    Raises:
        ApiProblem: 404, the same for absent assets and those of others.
    """
    file = _shown(access).filter(pk=asset_id).first() if _ID.fullmatch(asset_id) else None
    if file is not None and file.same_as:
        file = _shown(access).filter(pk=file.same_as).first()
    if file is None:
        raise not_found()
    return file


def _shown(access: Access) -> QuerySet[MediaFile]:
    found = MediaFile.objects.filter(state__in=SHOWN_STATES).select_related("task")
    return scoped(found, access)  # type: ignore[no-any-return]


class AssetListView(APIView):
    """The assets of a project."""

    actions = {"POST": "submit"}

    @operation("listAssets", "List assets, newest first", "AssetPage", parameters=[AssetQuery])
    def get(self, request: Request) -> Response:
        """Return one page of what the key may see, files that tasks made among them."""
        asked = read_query(request, AssetQuery)
        conditions = {
            _LOOKUPS.get(name, name): value
            for name, value in asked.items()
            if name not in ("cursor", "limit")
        }
        found = _shown(access_of(request)).filter(same_as="", **conditions)
        return page_response(request, found, asked, _bodies, order=BY_TIME_AND_TEXT)

    @operation(
        "createAsset",
        "Hand in a file",
        "NewAsset",
        status=201,
        request={"application/json": AssetRequest, uploads.MEDIA_TYPE: ref("AssetForm")},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request) -> Response:
        """Take an upload, or a URL that a worker fetches."""
        problems: list[FieldProblem] = []
        key = repeats.idempotency_key(request, problems)
        if problems:
            raise invalid(problems)
        take = _upload if uploads.is_upload(request) else _by_url
        try:
            body, is_repeated = take(request, key)
        except assets.QuotaExceeded as full:
            raise quota_exceeded(full) from None
        except IdempotencyConflict:
            raise repeats.conflict() from None
        headers = {"Location": f"/api/v1/assets/{body['asset_id']}"}
        if is_repeated:
            headers["Idempotent-Replayed"] = "true"
        return Response(body, 201, headers=headers)


def quota_exceeded(full: assets.QuotaExceeded) -> ApiProblem:
    """Return the 429 for a project without room for more assets."""
    return ApiProblem(429, "quota_exceeded", str(full))


def _scope(project_id: str) -> str:
    """Return the scope within which an Idempotency-Key is unique."""
    return f"assets:{project_id}"


def _made(file: MediaFile) -> tuple[str, dict[str, Any]]:
    return file.pk, asset_body(file)


def _by_url(request: Request, key: str | None) -> tuple[dict[str, Any], bool]:
    asked = read_body(request, AssetRequest)
    project_id = project_of(request, asked.get("project_id"))
    if "upload" in asked:
        return _presigned(request, key, project_id, asked)

    def make() -> tuple[str, dict[str, Any]]:
        return _made(assets.insert_pending(project_id, asked["url"]))

    made = once(_scope(project_id), key, repeats.fingerprint(request, request.data), make)
    tickets.send_ticket(tickets.FETCH, made[0]["asset_id"])
    return made


def _presigned(
    request: Request, key: str | None, project_id: str, asked: dict[str, Any]
) -> tuple[dict[str, Any], bool]:
    """Make an asset whose bytes the client sends to the bucket, and the form to do it with."""
    if asked["size_bytes"] > settings.ASSET_MAX_BYTES:
        raise uploads.too_large()

    def make() -> tuple[str, dict[str, Any]]:
        file = assets.insert_presigned(project_id, asked["media_type"], asked["size_bytes"])
        form = presigned_form(assets.bucket_name(file), asked["media_type"], asked["size_bytes"])
        return file.pk, {**asset_body(file), "upload": form}

    return once(_scope(project_id), key, repeats.fingerprint(request, request.data), make)


def _upload(request: Request, key: str | None) -> tuple[dict[str, Any], bool]:
    """Receive an upload; what is refused leaves neither a file nor a row.

    Raises:
        ApiProblem: 413, 415, 422, or 503 where the storage cannot be used.
    """
    least_bytes = uploads.least_bytes(request)
    bound = access_of(request).scope
    if bound is not None and not is_known(_scope(bound), key):
        assets.require_room(bound, least_bytes)
    with handed_in.receiving() as file:
        fields = uploads.receive(request, file)
        project_id = _project_of_form(request, fields)
        fingerprint = repeats.fingerprint(request, {"sha256": file.sha256})
        try:
            with handed_in.take(file, project_id) as received:
                return once(_scope(project_id), key, fingerprint, lambda: _made(received.insert()))
        except NotMedia as problem:
            raise ApiProblem(415, "unsupported_media", f"This is {problem}.") from None
        except OSError as error:
            text = "The media storage cannot be used just now."
            headers = {"Retry-After": "5"}
            raise ApiProblem(503, "storage_unavailable", text, headers=headers) from error
        finally:
            uploads.give_back_connection()


def _project_of_form(request: Request, fields: dict[str, str]) -> str:
    asked = fields.get("project_id")
    if asked is not None and not re.fullmatch(PROJECT_ID, asked):
        problem: FieldProblem = {
            "pointer": "/project_id",
            "code": "bad_format",
            "message": PROJECT_ID_SHAPE,
        }
        raise invalid([problem])
    return project_of(request, asked)


class AssetCompleteView(APIView):
    """A presigned upload that has been sent."""

    actions = {"POST": "submit"}

    @operation("completeAsset", "Have a presigned upload looked at", "Asset", may_conflict=True)
    def post(self, request: Request, asset_id: str) -> Response:
        """Let a worker fetch and decode it."""
        file = find_asset(access_of(request), asset_id)
        if not assets.hand_over(file):
            raise ApiProblem(409, "not_awaited", "This asset awaits no upload.")
        tickets.send_ticket(tickets.FETCH, file.pk)
        return Response(asset_body(find_asset(access_of(request), asset_id)))


class AssetView(APIView):
    """One asset."""

    @operation("getAsset", "One asset", "Asset")
    def get(self, request: Request, asset_id: str) -> Response:
        """Return the asset."""
        return Response(asset_body(find_asset(access_of(request), asset_id)))

    @operation("deleteAsset", "Delete an asset", "", status=204, may_conflict=True)
    def delete(self, request: Request, asset_id: str) -> Response:
        """Delete the asset and its file."""
        try:
            handed_in.delete(find_asset(access_of(request), asset_id))
        except assets.InUse:
            detail = "A task that has not ended names this asset, or a task made it."
            raise ApiProblem(409, "in_use", detail) from None
        except MediaFile.DoesNotExist:
            raise not_found() from None
        return Response(status=204)
