"""What is kept of an answer that repeats the secret it was sent?"""

from __future__ import annotations

import pytest

from webhooks_app.credentials import StoredCredential
from webhooks_app.credentials.use import Addition, settled
from webhooks_app.retry import AttemptResult
from webhooks_app.transport import ClientIdentity

SECRET = 's3cret"token-of-a-customer'


@pytest.mark.parametrize(
    ("body", "is_cut", "kept"),
    [
        (SECRET.encode(), False, b"***"),
        (b'{"x-key": "s3cret\\"token-of-a-customer"}', False, b'{"x-key": "***"}'),
        (b"got: " + SECRET[:12].encode(), True, b"got: ***"),
        (b"got: " + SECRET[:12].encode(), False, b"got: " + SECRET[:12].encode()),
        (b"nothing", True, b"nothing"),
    ],
)
def test_no_part_of_a_secret_is_kept(body: bytes, is_cut: bool, kept: bytes) -> None:
    """A secret is masked as it is, as JSON writes it, and where the answer was cut inside it."""
    held = StoredCredential("p", "n", "headers", frozenset(), {}, "v")
    addition = Addition(held, {"x-key": SECRET}, ClientIdentity("v", None))
    result = settled(addition, AttemptResult(response_body=body, truncated=is_cut))
    assert result.response_body == kept


def test_a_secret_is_masked_without_the_scheme_before_it() -> None:
    """Whatever word stands before it in a header, what repeats the rest is masked."""
    held = StoredCredential("p", "n", "headers", frozenset(), {}, "v")
    headers = {"x-key": "Token s3cret-of-a-customer"}
    addition = Addition(held, headers, ClientIdentity("v", None))
    result = settled(addition, AttemptResult(response_body=b"no: s3cret-of-a-customer"))
    assert result.response_body == b"no: ***"
