"""Can Redis be used now, and if not, why?

Every call to Redis goes through the gate of its process. The first failure shuts the gate: calls
then return at once, while a thread checks every second whether Redis works again. Redis only wakes
workers up, so every caller can go on without it.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, TypeVar

import dramatiq
import redis
import structlog
from django.conf import settings
from dramatiq.brokers.redis import RedisBroker

logger = structlog.get_logger(__name__)
T = TypeVar("T")

PROBE_SECONDS = 1.0
#: Time for the look-up of Redis's name, the connection and the TLS handshake together.
CONNECT_SECONDS = 0.5
#: Python raises UnicodeError for a host name with an empty or overlong label.
FAILURES = (
    redis.exceptions.RedisError,
    dramatiq.errors.BrokerConnectionError,
    OSError,
    UnicodeError,
)


@dataclass(frozen=True)
class Fault:
    """Why Redis cannot be used: a code for programs, a sentence for people."""

    code: str
    text: str


UNREACHABLE = Fault("unreachable", "Redis is unreachable")
NAME_UNKNOWN = Fault("name_unknown", "The host name in REDIS_URL cannot be looked up")
TIMED_OUT = Fault("timed_out", "Redis does not answer in time")
PASSWORD_REFUSED = Fault("password_refused", "Redis refuses the user or the password of REDIS_URL")
TLS_FAILED = Fault("tls_failed", "Redis does not speak TLS at the address of REDIS_URL")
CA_UNREADABLE = Fault("ca_unreadable", "A certificate file named in REDIS_URL cannot be read")
#: The first word of Redis's errors that have no class in redis-py.
_BY_WORD = {
    "MISCONF": Fault("disk_failed", "Redis cannot write to its disk and takes no changes"),
    "NOAUTH": PASSWORD_REFUSED,
    "WRONGPASS": PASSWORD_REFUSED,
    "NOREPLICAS": Fault("read_only", "Redis takes no changes without its replicas"),
    "BUSY": TIMED_OUT,
}
_BY_CLASS: tuple[tuple[type[BaseException], Fault], ...] = (
    (redis.exceptions.AuthenticationError, PASSWORD_REFUSED),
    (redis.exceptions.AuthenticationWrongNumberOfArgsError, PASSWORD_REFUSED),
    (redis.exceptions.ReadOnlyError, Fault("read_only", "Redis is read-only")),
    (redis.exceptions.OutOfMemoryError, Fault("out_of_memory", "Redis is out of memory")),
    (redis.exceptions.BusyLoadingError, Fault("loading", "Redis is still loading its data")),
    (
        redis.exceptions.MasterDownError,
        Fault("read_only", "Redis is a replica that has lost its primary"),
    ),
    (socket.gaierror, NAME_UNKNOWN),
    (UnicodeError, NAME_UNKNOWN),
    (ssl.SSLError, TLS_FAILED),
    (redis.exceptions.TimeoutError, TIMED_OUT),
    (TimeoutError, TIMED_OUT),
)
_DENIED = re.compile(r"no permissions|can't run this command")
_DENIED_COMMAND = re.compile(r"run the '([\w|-]+)' command")


def fault_of(error: BaseException) -> Fault:
    """Return what is wrong with Redis by the error of a call; never quotes a value of ours."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            text = f"Redis's certificate is not trusted ({one.verify_message})"
            return Fault("certificate_not_trusted", text)
        if isinstance(one, redis.exceptions.ResponseError) and _DENIED.search(str(one)):
            return _denied(str(one))
    for kind, fault in _BY_CLASS:
        if any(isinstance(one, kind) for one in chain):
            return fault
    is_tls = settings.REDIS_URL.startswith("rediss:")
    if is_tls and any(isinstance(one, (FileNotFoundError, PermissionError)) for one in chain):
        return CA_UNREADABLE
    if isinstance(error, redis.exceptions.ResponseError):
        word = str(error).partition(" ")[0]
        return _BY_WORD.get(word, Fault("failing", "Redis refuses what it is asked"))
    return UNREACHABLE


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _denied(said: str) -> Fault:
    command = _DENIED_COMMAND.search(said)
    what = f"the command {command[1].upper()}" if command else "a key or a command that is needed"
    return Fault("permission_denied", f"Redis's access list denies the user {what}")


class _ConnectInTime:
    """A connection with one time-out for all of its steps.

    redis-py applies its time-out to each step alone, and not to the look-up of the host name,
    which may take half a minute.
    """

    def _connect(self) -> Any:
        made: Future[Any] = Future()
        connect = super()._connect  # type: ignore[misc]
        threading.Thread(target=_keep_promise, args=[made, connect], daemon=True).start()
        try:
            return made.result(CONNECT_SECONDS)
        except FutureTimeout:
            # Nobody uses the connection any more: close it if it still comes.
            made.add_done_callback(lambda late: late.exception() or late.result().close())
            raise TimeoutError("no connection in time") from None


def _keep_promise(made: Future[Any], connect: Callable[[], Any]) -> None:
    try:
        made.set_result(connect())
    except BaseException as error:
        made.set_exception(error)


def connect(url: str) -> redis.Redis:
    """Return a client with a pool of its own; the URL may set time-outs.

    Raises:
        ValueError: not a Redis URL.
    """
    pool = redis.ConnectionPool.from_url(url)
    kind: type[Any] = pool.connection_class
    if issubclass(kind, redis.Connection):  # not a Unix socket
        pool.connection_class = type(kind.__name__, (_ConnectInTime, kind), {})
    return redis.Redis(connection_pool=pool)


_client: redis.Redis | None = None


def client() -> redis.Redis:
    """Return this process's client for everything but tickets."""
    global _client
    if _client is None:
        _client = connect(settings.REDIS_URL)
    return _client


WORKERS = "workers"  # sorted set: worker process -> time of its last sign of life


def probe() -> bool:
    """Try everything that the service does with Redis; return True.

    Not PING, which also works on a full, a read-only and an access-restricted Redis. Runs the
    script that sends and fetches tickets, which writes, and reads each other kind of key.

    Raises:
        redis.exceptions.RedisError, or another of `FAILURES`: Redis does not work.
    """
    broker = dramatiq.get_broker()
    if isinstance(broker, RedisBroker):
        broker.do_qsize("probe")
    client().exists(WORKERS, "rate:probe")
    return True


class RedisGate:
    """Open while Redis works; shut from its first failure until ``ask`` succeeds again.

    One per process. ``fault`` is the reason while it is shut, None while it is open.
    """

    def __init__(self, ask: Callable[[], object] = probe) -> None:
        self.fault: Fault | None = None
        self._ask = ask
        self._lock = threading.Lock()

    def call(self, ask: Callable[[], T]) -> T | None:
        """Return what ``ask`` returns, or None if Redis cannot be used (at once while shut)."""
        if self.fault:
            return None
        try:
            return ask()
        except FAILURES as error:
            self._shut(fault_of(error))
            return None

    def _shut(self, fault: Fault) -> None:
        with self._lock:
            was_open = self.fault is None
            self.fault = fault
        if was_open:
            _tell(fault)
            threading.Thread(target=self._watch, name="redis-gate", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(PROBE_SECONDS) and self.fault:
            try:
                self._ask()
            except Exception as error:  # the loop's edge: else the gate would stay shut for good
                self._still_shut(fault_of(error))
            else:
                self.fault = None
                logger.info("Redis can be used again")

    def _still_shut(self, fault: Fault) -> None:
        with self._lock:
            is_news = self.fault not in (None, fault)
            self.fault = fault if self.fault else None
        if is_news:
            _tell(fault)


def _tell(fault: Fault) -> None:
    consequence = "tasks start up to some seconds late"
    logger.warning("Redis cannot be used", reason=fault.text, consequence=consequence)


gate = RedisGate()


def look() -> Fault | None:
    """Return what is wrong with Redis now, None if it works."""
    gate.call(probe)
    return gate.fault
