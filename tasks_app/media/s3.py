"""How are media kept on S3? By django-storages, with errors and signatures as we need them.

Every error below becomes an `OSError`, as with files (botocore's errors are none), so that callers
need not know which storage it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage

#: Limits for one request with its repetitions, since the sweep must not wait long for a bucket.
FORM_SECONDS = 3600
CONNECT_SECONDS, READ_SECONDS, TRIES = 5, 30, 3


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Turn the client library's errors into an `OSError` with their type, without URLs."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "?")
        if code in ("404", "NoSuchKey"):
            raise FileNotFoundError(f"S3 answered {code} to {error.operation_name}") from error
        raise OSError(f"S3 answered {code} to {error.operation_name}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(f"S3 cannot be used ({type(error).__name__})") from error


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with as_os_errors():
            return method(*args, **kwargs)

    return call


class S3(S3Storage):  # type: ignore[misc]
    """A bucket, or the part of one below a prefix.

    Args:
        options: django-storages' own, and ``addressing_style``: auto, path or virtual.
    """

    def __init__(self, **options: Any) -> None:
        config = Config(
            # Without a region boto3 would sign links with version 2, which new buckets refuse.
            signature_version="s3v4",
            s3={"addressing_style": options.pop("addressing_style", "auto")},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            # Checksums in trailers are Amazon's own; other servers refuse or store them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        super().__init__(client_config=config, **options)

    def link(self, name: str, media_type: str, disposition: str) -> str:
        """Return a link to a file that is served with this type and disposition."""
        headers = {"ResponseContentType": media_type, "ResponseContentDisposition": disposition}
        return str(self.url(name, parameters=headers))

    @_translated
    def form(self, name: str, media_type: str, size_bytes: int) -> dict[str, Any]:
        """Return a form with which a client may put exactly so many bytes there, for an hour."""
        found: dict[str, Any] = self.connection.meta.client.generate_presigned_post(
            self.bucket_name,
            self._normalize_name(name),
            Fields={"Content-Type": media_type},
            Conditions=[
                {"Content-Type": media_type},
                ["content-length-range", size_bytes, size_bytes],
            ],
            ExpiresIn=FORM_SECONDS,
        )
        return found

    @_translated
    def read(self, name: str) -> bytes:
        with self.open(name, "rb") as file:
            return bytes(file.read())

    @_translated
    def put(self, name: str, content: bytes) -> None:
        self.bucket.Object(self._normalize_name(name)).put(Body=content)


for _name in ("_open", "_save", "delete", "exists", "listdir", "size", "get_modified_time", "url"):
    setattr(S3, _name, _translated(getattr(S3Storage, _name)))
