"""What does an engine do for a message that has a credential?

It adds what the credential says to the request, and nothing at all where it cannot: such an attempt
is not sent, and uses up no retry. What a row and the logs get of it is masked.
"""

from __future__ import annotations

from collections.abc import Mapping

from webhooks_app import outbox
from webhooks_app.credentials import Unusable
from webhooks_app.credentials.store import CredentialCache
from webhooks_app.credentials.use import UNAUTHORIZED, Addition, Additions, settled
from webhooks_app.database import DatabaseThread
from webhooks_app.notation import LEFT_OFF
from webhooks_app.outbox import Claimed
from webhooks_app.retry import AttemptResult, Decision, ErrorCode, RetryAt, decide_unsent
from webhooks_app.transport import Transport


class PutOff(Exception):
    """A message's credential cannot be used: what its row gets, and when it is tried again."""

    def __init__(self, result: AttemptResult, decision: Decision) -> None:
        super().__init__(result.error)
        self.result, self.decision = result, decision


class Authorizer:
    """The credentials of one engine; bound to its loop and its transport."""

    def __init__(self, transport: Transport) -> None:
        self._thread = DatabaseThread("credentials")
        self._additions = Additions(transport, CredentialCache(self._thread))

    async def addition(self, message: Claimed, now: float) -> Addition | None:
        """Return what the message's request gets; None where its credential was left off.

        Raises:
            PutOff: the credential is missing, unreadable, bound elsewhere, or gets no token.
        """
        name = message.callback_auth
        if name.startswith(LEFT_OFF):
            return None
        try:
            return await self._additions.get(message.scope, name, message.url)
        except Unusable as unusable:
            waited = await self._thread.call(
                outbox.seconds_unsent, message.message_id, message.replay_id
            )
            code = ErrorCode.CREDENTIAL
            decision = decide_unsent(code, waited, step=message.retry_step, now=now)
            result = AttemptResult(error_code=code, error=f"not sent: {unusable}")
            raise PutOff(result, decision) from None

    def kept(
        self,
        message: Claimed,
        addition: Addition | None,
        headers: Mapping[str, str],
        result: AttemptResult,
    ) -> tuple[Mapping[str, str], AttemptResult]:
        """Return the headers and the result for the attempt's row, without secrets."""
        if addition is not None:
            return {**headers, **addition.masked}, settled(addition, result)
        name = message.callback_auth.removeprefix(LEFT_OFF)
        note = f"note: without the credential {name!r}, which is not bound to this origin"
        return headers, result._replace(error=f"{result.error}; {note}".removeprefix("; "))

    def renewed(
        self, message: Claimed, addition: Addition | None, result: AttemptResult, now: float
    ) -> Decision | None:
        """Return the decision where a token was refused that a new one may stand in for."""
        if addition is None or result.status != UNAUTHORIZED:
            return None
        if not self._additions.refused(addition):
            return None
        return RetryAt(at=now, delay=0.0, step=message.retry_step)

    async def close(self) -> None:
        """Close the database connection."""
        await self._thread.close()
