"""What is added to one request of a message that has a credential, and what is kept of it?

Only for the origins that the credential is bound to. What goes into rows and logs is masked here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from webhooks_app.credentials.certificate import load_into
from webhooks_app.credentials.kinds import headers_of, origin_in
from webhooks_app.credentials.store import CredentialCache, StoredCredential, Unusable
from webhooks_app.credentials.tokens import Token, Tokens
from webhooks_app.models import CredentialKind
from webhooks_app.retry import AttemptResult
from webhooks_app.transport import ClientIdentity, Transport

MASK = "***"
UNAUTHORIZED = 401
#: A shorter secret is not looked for in answers: it would be found by chance.
SHORTEST_MASKED = 6
MAX_IDENTITIES = 1_000


class Addition(NamedTuple):
    """What one request gets from a credential. ``headers`` are as sent, so never to be stored."""

    credential: StoredCredential
    headers: Mapping[str, str]
    identity: ClientIdentity
    token: Token | None = None

    @property
    def masked(self) -> dict[str, str]:
        """The headers for the attempt's row: names alone."""
        return dict.fromkeys(self.headers, MASK)


class Additions:
    """What this process may add to requests; bound to one event loop, as its transport is."""

    def __init__(self, transport: Transport, cache: CredentialCache | None = None) -> None:
        self._cache = cache
        self._tokens = Tokens(transport.fetch)
        self._identities: dict[str, ClientIdentity] = {}

    async def get(self, scope: str, name: str, url: str) -> Addition:
        """Return what a request to this URL gets from a project's credential.

        Raises:
            Unusable: there is no such credential, it is bound to other origins, or no token.
        """
        assert self._cache is not None
        credential = await self._cache.get(scope, name)
        try:
            return await self.of(credential, url)
        except Unusable:
            # It may have been mended since it was read: what waited for that must not wait longer.
            anew = await self._cache.get(scope, name, is_anew=True)
            if anew.version == credential.version:
                raise
            return await self.of(anew, url)

    async def of(self, credential: StoredCredential, url: str) -> Addition:
        """The same for a credential that is at hand."""
        if origin_in(url) not in credential.origins:
            raise Unusable(f"the credential {credential.name!r} is not bound to this origin")
        headers = headers_of(credential.kind, credential.values)
        token = None
        if credential.kind == CredentialKind.OAUTH2:
            token = await self._tokens.get(credential)
            headers = {"authorization": f"Bearer {token.text}"}
        return Addition(credential, headers, self._identity(credential), token)

    def refused(self, addition: Addition) -> bool:
        """Note a 401; return whether the message goes again at once with a new token, for free."""
        token = addition.token
        return token is not None and self._tokens.refused(addition.credential, token)

    def _identity(self, credential: StoredCredential) -> ClientIdentity:
        identity = self._identities.get(credential.version)
        if identity is None:
            if len(self._identities) >= MAX_IDENTITIES:
                self._identities.clear()
            identity = ClientIdentity(credential.version, _loader(credential))
            self._identities[credential.version] = identity
        return identity


def _loader(credential: StoredCredential) -> Callable[[ssl.SSLContext], None] | None:
    if credential.kind != CredentialKind.CLIENT_CERTIFICATE:
        return None
    values = credential.values

    def load(context: ssl.SSLContext) -> None:
        load_into(context, values["certificate"], values["private_key"])

    return load


def settled(addition: Addition, result: AttemptResult) -> AttemptResult:
    """Return what may be kept of an answer: receivers that repeat a secret are not quoted.

    Any answer but 401 shows that its token works.
    """
    if addition.token is not None and result.status not in (None, UNAUTHORIZED):
        addition.token.is_on_trial = False
    secrets = _secrets_of(addition)
    if not secrets:
        return result
    body, headers = result.response_body, result.response_headers
    for secret in secrets:
        body = body.replace(secret.encode(), MASK.encode())
        headers = tuple((name, value.replace(secret, MASK)) for name, value in headers)
    if result.truncated:
        body = _without_beginning(body, secrets)
    return result._replace(response_body=body, response_headers=headers)


def _without_beginning(body: bytes, secrets: Sequence[str]) -> bytes:
    """Return a body that was cut off without the part of a secret at its end."""
    for secret in map(str.encode, secrets):
        for length in range(len(secret) - 1, SHORTEST_MASKED - 1, -1):
            if body.endswith(secret[:length]):
                return body[:-length] + MASK.encode()
    return body


def _secrets_of(addition: Addition) -> list[str]:
    values = [*addition.headers.values()]
    values += [value.partition(" ")[2] for value in values]  # without a scheme such as Bearer
    if addition.credential.kind == CredentialKind.BASIC:
        values.append(addition.credential.values["password"])
    values += [json.dumps(value)[1:-1] for value in values]  # as receivers repeat it in JSON
    return sorted((v for v in values if len(v) >= SHORTEST_MASKED), key=len, reverse=True)
