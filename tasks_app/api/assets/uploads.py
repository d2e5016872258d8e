"""How is an upload read? Piece by piece out of its form, never whole in memory.

Django's parser finds the parts; the one file goes into a work directory while it comes. The
connection to the database is given back meanwhile, since a client may take minutes.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler
from django.db import connection
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from tasks_app.media.staging import StagedFile, TooLarge
from webhooks_app.api.problems import ApiProblem, FieldProblem, invalid

#: What a form may have besides the file: its lines, and the other fields.
FORM_BYTES = settings.UPLOAD_FORM_BYTES
MEDIA_TYPE = "multipart/form-data"
_PIECE_BYTES = 256 * 1024
#: Longer than any closing line of a form.
_TAIL_BYTES = 256


def is_upload(request: Request) -> bool:
    """Say whether a request's body is a form."""
    return (request.content_type or "").partition(";")[0].strip().lower() == MEDIA_TYPE


def least_bytes(request: Request) -> int:
    """Return how many bytes the file has at least, as far as a length was announced.

    Raises:
        ApiProblem: 413 for a form that is longer than one with the largest file.
    """
    length = int(request.META.get("CONTENT_LENGTH") or 0)
    if length > settings.ASSET_MAX_BYTES + FORM_BYTES:
        raise too_large()
    # Without a length the web server gives the largest one.
    return 1 if "HTTP_TRANSFER_ENCODING" in request.META else max(1, length - FORM_BYTES)


def too_large() -> ApiProblem:
    """Return the 413 for a file above the limit."""
    limit = settings.ASSET_MAX_BYTES
    return ApiProblem(413, "too_large", f"An asset may have at most {limit} bytes.")


def receive(request: Request, file: StagedFile) -> dict[str, str]:
    """Read a form with one file into ``file``; return its other fields.

    Raises:
        ApiProblem: 400 for a form that cannot be read or was cut short, 408 for one that came too
            slowly, 413, and 422 where there is no file.
    """
    give_back_connection()
    stream = _Tail(request._request)
    handler = _ToFile(file)
    try:
        parser: Any = MultiPartParser  # its stub wants more of a stream than it reads
        fields, _ = parser(request.META, stream, [handler], "utf-8").parse()
    except MultiPartParserError:
        raise ParseError("The form cannot be read.") from None
    except TooLarge:
        raise too_large() from None
    except OSError as error:
        refuse_broken(error)
    if not stream.ends_with_form(request.content_type or ""):
        raise ParseError("The form has no end.")
    _check_names(handler.names, set(fields))
    return {name: str(fields[name]) for name in fields}


def give_back_connection() -> None:
    """Close this thread's connection to the database; an upload's seat seldom needs one."""
    if not connection.in_atomic_block:
        connection.close()


def refuse_broken(error: OSError) -> NoReturn:
    """Tell what became of a body; Django hides the server's error behind one of its own."""
    cause = error.__cause__ if error.__cause__ is not None else error
    if isinstance(cause, TimeoutError):
        detail = "It came too slowly. Send it faster, without pauses."
        raise ApiProblem(408, "request_timeout", detail) from None
    if isinstance(cause, ConnectionError):
        raise ApiProblem(400, "bad_request", "The request's body was cut short.") from None
    raise error


def _check_names(files: list[str], fields: set[str]) -> None:
    problems: list[FieldProblem] = []
    unknown = sorted((fields | set(files)) - {"file", "project_id"})
    if files.count("file") != 1:
        problems.append(
            {"pointer": "/file", "code": "required", "message": 'Send one file as "file".'}
        )
    for name in unknown:
        message = 'There is no such field. A form has "file" and "project_id".'
        problems.append({"pointer": f"/{name[:100]}", "code": "unknown_field", "message": message})
    if problems:
        raise invalid(problems)


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Tail:
    """The body, whose last bytes are remembered."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._last = b""

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(size)
        self._last = (self._last + piece)[-_TAIL_BYTES:]
        return piece

    def ends_with_form(self, content_type: str) -> bool:
        """Say whether the form's closing line has come; Django takes one that breaks off."""
        boundary = content_type.partition("boundary=")[2].partition(";")[0].strip().strip('"')
        return f"--{boundary}--".encode() in self._last


class _ToFile(FileUploadHandler):
    """Writes the file of the form as it comes."""

    chunk_size = _PIECE_BYTES

    def __init__(self, file: StagedFile) -> None:
        super().__init__()
        self._staged = file
        self.names: list[str] = []

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """Note the name; Django's parser allows many files."""
        super().new_file(field_name, *args, **kwargs)
        self.names.append(field_name)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write a piece of a file; a form with two of them is refused in the end."""
        self._staged.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        """Return nothing: the file is where it belongs."""
