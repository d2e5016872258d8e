"""How is the service configured? From the environment alone, described where it is read.

With nothing set this is a development machine: PostgreSQL and Redis are started in ``var/``, and
callbacks may go to loopback. With ``DATABASE_URL`` set it is production, which refuses to start
until every setting that it needs is there.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from moviesvc import __version__, database_url, otel
from moviesvc.environment import Environment
from moviesvc.library_settings import (  # noqa: F401 - settings, as Django and others look for them
    AUTH_PASSWORD_VALIDATORS,
    REST_FRAMEWORK,
    SPECTACULAR_SETTINGS,
    TEMPLATES,
    UNFOLD,
)
from moviesvc.run import secret_file
from moviesvc.run.lock_file import make_private
from tasks_app import events, task_types

os.umask(0o077)  # files that our processes create are for their owner alone by default
# OTEL_EXPORTER_OTLP_ENDPOINT: a collector that gets traces; its SDK reads all other OTEL_ names.
if not otel.is_wanted(os.environ):
    otel.leave_out()  # before anything of Redis is loaded
gc.disable()  # start-up makes no garbage; moviesvc.run.collector enables it again

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()

# VAR_DIR: where all state of a development set-up lives.
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
make_private(VAR_DIR)
# EMBEDDED=off: never start PostgreSQL or Redis (building docs, type checks, images).
EMBEDDED = env.bool("EMBEDDED", default=True)
# ENVIRONMENT: development or production.
ENVIRONMENT = env.choice(
    "ENVIRONMENT",
    ("development", "production"),
    default="production" if os.environ.get("DATABASE_URL") else "development",
)
IS_PRODUCTION = ENVIRONMENT == "production"
_REQUIRED = ("SECRET_KEY", "PUBLIC_URL", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL")
_missing = [name for name in _REQUIRED if IS_PRODUCTION and not os.environ.get(name)]
if _missing:
    raise ImproperlyConfigured(
        f"Production needs {', '.join(_missing)}. Set them in the environment, "
        "or set ENVIRONMENT=development for a try-out."
    )


# SECRET_KEY: signs sessions; SECRET_KEY_FALLBACKS: comma-separated older ones.
SECRET_KEY = env.str("SECRET_KEY", default="") or secret_file.read_or_create(
    VAR_DIR / "secret_key"  # kept, so that sessions and stored secrets survive a restart
)
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
DEBUG = env.bool("DEBUG", default=False)
# PORT, PUBLIC_URL: where the web server listens, and the base of every absolute link.
PORT = env.int("PORT", default=8001)
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://localhost:{PORT}").rstrip("/")
# ALLOWED_HOSTS: comma-separated host names the service answers to.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"])
_is_https = PUBLIC_URL.startswith("https://")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "moviesvc",  # first: one of its templates replaces the theme's
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_dramatiq",
    "django_structlog",
    "rest_framework",
    "rest_framework_api_key",  # its own APIKey table stays empty; ours extends its abstract model
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "tasks_app",
    "moviesvc.run.collector.LastApp",  # webhooks_app; the last one, so that all is loaded then
]

MIDDLEWARE = [
    "moviesvc.problems.ProblemMiddleware",
    "moviesvc.admin_gate.AdminNetwork",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "moviesvc.request_log.RequestLog",
    "moviesvc.admin_gate.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "moviesvc.admin_gate.Logins",
    "moviesvc.admin_gate.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "moviesvc.admin_gate.AdminLoginThrottle",
    "moviesvc.admin_gate.ContentSecurityPolicy",
]

ROOT_URLCONF = "moviesvc.urls"
WSGI_APPLICATION = "moviesvc.wsgi.application"


def _database_url() -> str:
    """Return ``DATABASE_URL``, starting the embedded server when it is unset."""
    if url := os.environ.get("DATABASE_URL", ""):
        return url
    if not EMBEDDED:
        return "postgresql://postgres@/movies?host=/nonexistent"
    from moviesvc.run import embedded

    return embedded.postgres(VAR_DIR)


def _redis_url() -> str:
    """Return ``REDIS_URL`` with the short time-outs that only its query string can carry."""
    url = os.environ.get("REDIS_URL", "")
    if not url and EMBEDDED:
        from moviesvc.run import embedded

        url = embedded.redis(VAR_DIR)
    url = url or "unix:///nonexistent/redis.sock?db=0"
    if "socket_timeout" not in url:
        url += ("&" if "?" in url else "?") + "socket_timeout=0.25&socket_connect_timeout=0.25"
    from redis.connection import parse_url

    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:  # its text may quote a password
        raise ImproperlyConfigured(
            "REDIS_URL cannot be read. It has the form redis://user:password@host:port/db, "
            "rediss://... with TLS, or unix:///path?db=0; special characters in the user and the "
            "password are percent-encoded."
        ) from None
    return url


# DATABASE_URL: postgresql://user:password@host:port/name, or any other form that libpq takes.
DATABASES = {"default": database_url.read(_database_url())}
DATABASES["default"].update(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
# A pooler may give each transaction another session, so nothing may depend on one: no server-side
# cursors, and no `options` at connect, which PgBouncer refuses.
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# REDIS_URL: redis://host:port/db, rediss:// with TLS, or unix:///path?db=0; Valkey speaks the same.
REDIS_URL = _redis_url()
if os.environ.get("BROKER_URL"):
    raise ImproperlyConfigured(
        "BROKER_URL is set, but tickets travel over Redis or Valkey only: unset it, and name the "
        "server in REDIS_URL."
    )

_MIDDLEWARE = [
    "moviesvc.logs.LogContextMiddleware",
    "django_dramatiq.middleware.DbConnectionsMiddleware",
    "moviesvc.run.lifeline.LifelineMiddleware",
    "moviesvc.run.collector.CollectSeldom",
    "tasks_app.middleware.ShutdownMiddleware",
    "webhooks_app.middleware.WebhookMiddleware",
    "tasks_app.middleware.SweepMiddleware",
    "tasks_app.middleware.LookMiddleware",
    "tasks_app.middleware.RemoteWorkMiddleware",
    "dramatiq.middleware.TimeLimit",
    "dramatiq.middleware.Callbacks",
    "dramatiq.middleware.Retries",
]
DRAMATIQ_BROKER: dict[str, Any] = {
    "BROKER": "tasks_app.broker.TicketBroker",
    "OPTIONS": {
        "url": REDIS_URL,
        "namespace": env.str("DRAMATIQ_NAMESPACE", default="movies"),
        "heartbeat_timeout": 30_000,
        "maintenance_chance": 1_000_000,
    },
    "MIDDLEWARE": _MIDDLEWARE,
}
DRAMATIQ_AUTODISCOVER_MODULES = ["actors"]

# Tasks. TASK_LEASE_SECONDS: how long a worker owns a task without a sign of life.
TASK_LEASE_SECONDS = env.float("TASK_LEASE_SECONDS", default=30.0)
# TASK_RETRY_WAITS: seconds before attempts 2, 3, ...; their number sets the attempts.
TASK_RETRY_WAITS = env.numbers("TASK_RETRY_WAITS", default=[5.0, 30.0])
# TASK_LOST_LIMIT: a task fails after this many workers were lost while they ran it.
TASK_LOST_LIMIT = env.int("TASK_LOST_LIMIT", default=10)
# WEBHOOK_PROGRESS_INTERVAL: least seconds between two task.progress events of a task.
TASK_PROGRESS_EVENT_SECONDS = env.float("WEBHOOK_PROGRESS_INTERVAL", default=5.0)
# WEBHOOK_TRACEBACK: "off" leaves the key `traceback` out of failure payloads.
TASK_EVENT_TRACEBACK = env.bool("WEBHOOK_TRACEBACK", default=True)
# SWEEP_INTERVAL_SECONDS: how often the sweep repairs what crashes left behind.
SWEEP_INTERVAL_SECONDS = env.float("SWEEP_INTERVAL_SECONDS", default=3.0)
# RENDER_SLOTS: local renders at once in one worker process; 0 means one per core.
RENDER_SLOTS = env.int("RENDER_SLOTS", default=0) or os.cpu_count() or 1
# GENERATION_PROVIDERS: JSON object, task type -> provider path (or {"provider", "options"}).
GENERATION_PROVIDERS = env.json(
    "GENERATION_PROVIDERS",
    default=dict.fromkeys(
        task_types.TASK_TYPES, "tasks_app.providers.previz.provider.PrevizProvider"
    ),
)
# Remote providers (docs/providers.md): base URL and key of each; a key is sent to its URL only.
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="https://api.openai.com")
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
REPLICATE_BASE_URL = env.str("REPLICATE_BASE_URL", default="https://api.replicate.com")
REPLICATE_API_TOKEN = env.str("REPLICATE_API_TOKEN", default="")
FAL_BASE_URL = env.str("FAL_BASE_URL", default="https://queue.fal.run")
FAL_API_KEY = env.str("FAL_API_KEY", default="")
# FAL_STORAGE_URL: where a task's files are uploaded for fal; "off" hands over links to ours.
FAL_STORAGE_URL = env.str("FAL_STORAGE_URL", default="https://rest.fal.ai")
FAL_STORAGE_URL = "" if FAL_STORAGE_URL == "off" else FAL_STORAGE_URL
COG_BASE_URL = env.str("COG_BASE_URL", default="")
# REPLICATE_WEBHOOK_SECRET: whsec_..., with which Replicate signs its callbacks.
REPLICATE_WEBHOOK_SECRET = env.str("REPLICATE_WEBHOOK_SECRET", default="")
# FAL_JWKS_URL: where fal publishes the keys that sign its callbacks.
FAL_JWKS_URL = env.str("FAL_JWKS_URL", default="https://rest.alpha.fal.ai/.well-known/jwks.json")
# PROVIDER_CALLBACK_URL: where providers reach this service; "off" to be called by none.
PROVIDER_CALLBACK_URL = env.str("PROVIDER_CALLBACK_URL", default=PUBLIC_URL).rstrip("/")
PROVIDER_CALLBACK_URL = "" if PROVIDER_CALLBACK_URL == "off" else PROVIDER_CALLBACK_URL
# PROVIDER_CALLBACK_MAX_BYTES: the longest call; Cog's holds the whole result, a third longer.
PROVIDER_CALLBACK_MAX_BYTES = env.int("PROVIDER_CALLBACK_MAX_BYTES", default=32 << 20)
# Calls above a mebibyte that one web process reads at once; each takes memory of several times its
# length. Cog repeats one that is turned away.
PROVIDER_CALLBACK_SEATS = 2
# REMOTE_LOOK_SECONDS: the longest wait between two looks at work of a provider.
REMOTE_LOOK_SECONDS = env.float("REMOTE_LOOK_SECONDS", default=60.0)
# COMFYUI_URLS: the pool: http://host:8188, or label=http://host:8188; a receipt has the label.
COMFYUI_URLS = env.list("COMFYUI_URLS", default=[])
# COMFYUI_WORKFLOWS: the folder of workflow templates, one JSON file each.
COMFYUI_WORKFLOWS = env.str("COMFYUI_WORKFLOWS", default="")
# COMFYUI_HEADERS: JSON object, label (or * for all) -> headers for a proxy in front.
COMFYUI_HEADERS = env.json("COMFYUI_HEADERS", default={})
# COMFYUI_CONCURRENCY: most jobs of ours at once on each server; label=number for one of them.
COMFYUI_CONCURRENCY = env.list("COMFYUI_CONCURRENCY", default=["2"])
# COMFYUI_QUEUE_LIMIT: a server with so many jobs in its queue, others' too, gets no more.
COMFYUI_QUEUE_LIMIT = env.int("COMFYUI_QUEUE_LIMIT", default=10)
# COMFYUI_LOST_SECONDS: the jobs of a server that is silent for so long start anew on another.
COMFYUI_LOST_SECONDS = env.float("COMFYUI_LOST_SECONDS", default=60.0)
# PROVIDER_ALLOW_NETWORKS: private networks that providers' base URLs may be in, http allowed; for
# one provider as comfyui=192.168.1.0/24.
PROVIDER_ALLOW_NETWORKS = env.list("PROVIDER_ALLOW_NETWORKS", default=[])
# PROVIDER_PROXY: forward proxy to providers and their results, as WEBHOOK_PROXY; for one provider
# as fal=http://proxy:3128, and comfyui=off for none. PROVIDER_PROXY_GUARDS: of all of them.
PROVIDER_PROXY = env.list("PROVIDER_PROXY", default=[])
PROVIDER_PROXY_GUARDS = env.bool("PROVIDER_PROXY_GUARDS", default=False)
# GENERATION_PRICES: JSON object, model -> {"unit": "second", "amount": "0.10", "currency": "USD"}.
GENERATION_PRICES = env.json("GENERATION_PRICES", default={})
# QUEUE_LIMIT_PER_PROJECT: queued tasks one project may have; further submits get 429.
QUEUE_LIMIT_PER_PROJECT = env.int("QUEUE_LIMIT_PER_PROJECT", default=20_000)
# RATE_LIMIT_PER_MINUTE: requests a minute for a key without a limit of its own.
RATE_LIMIT_PER_MINUTE = env.int("RATE_LIMIT_PER_MINUTE", default=6_000)
# REFUSED_KEYS_PER_MINUTE: wrong keys one address may send a minute before it gets 429.
REFUSED_KEYS_PER_MINUTE = env.int("REFUSED_KEYS_PER_MINUTE", default=120)
IDEMPOTENCY_HOURS = 24
# PROJECT_RATE_LIMIT_PER_MINUTE: requests a minute for all keys bound to a project; 0 for no limit.
PROJECT_RATE_LIMIT_PER_MINUTE = env.int("PROJECT_RATE_LIMIT_PER_MINUTE", default=0)
# WEB_THREADS: requests that one web process answers at once.
WEB_THREADS = env.int("WEB_THREADS", default=16)
# HEAD_TIMEOUT_SECONDS: how long a connection may wait for the head of a request, 60 at most; also
# how long an idle one is kept. A proxy in front must close its idle connections sooner.
HEAD_TIMEOUT_SECONDS = env.float("HEAD_TIMEOUT_SECONDS", default=30.0)
# BODY_TIMEOUT_SECONDS: time for a body up to 64 KiB, and for each pause within a larger one.
# WRITE_TIMEOUT_SECONDS: how long a client may read nothing of its answer.
BODY_TIMEOUT_SECONDS = env.float("BODY_TIMEOUT_SECONDS", default=15.0)
WRITE_TIMEOUT_SECONDS = env.float("WRITE_TIMEOUT_SECONDS", default=30.0)
# MEDIA_TRANSFERS: files above 64 KiB that one web process sends at once; they hold no thread.
MEDIA_TRANSFERS = env.int("MEDIA_TRANSFERS", default=256)
# UPLOADS: files that one web process receives at once, each in a thread of its own.
UPLOADS = env.int("UPLOADS", default=8)
# SSE_STREAMS, SSE_STREAMS_PER_KEY: open event streams per web process and per key. Each occupies a
# thread, so they may take half of them at most: the others are for other requests.
SSE_STREAMS = min(env.int("SSE_STREAMS", default=8), WEB_THREADS // 2)
SSE_STREAMS_PER_KEY = env.int("SSE_STREAMS_PER_KEY", default=4)
SSE_MAX_SECONDS = env.float("SSE_MAX_SECONDS", default=60.0)

# Media. MEDIA_ROOT: the folder of stored files; S3_BUCKET and the AWS_ variables: use S3 instead.
MEDIA_ROOT = env.str("MEDIA_ROOT", default=str(VAR_DIR / "media"))
WORK_ROOT = env.str("WORK_ROOT", default=str(VAR_DIR / "work"))
# MEDIA_URL_TTL: seconds a media link lives; 0 means as long as the file.
MEDIA_URL_TTL = env.int("MEDIA_URL_TTL", default=0)
# MEDIA_ACCEL_PREFIX: internal nginx location that serves MEDIA_ROOT (X-Accel-Redirect).
MEDIA_ACCEL_PREFIX = env.str("MEDIA_ACCEL_PREFIX", default="")
# MEDIA_RETENTION_DAYS: files of finished tasks are kept this long.
MEDIA_RETENTION_DAYS = env.int("MEDIA_RETENTION_DAYS", default=30)
# ASSET_MAX_BYTES: the largest file that a client may hand in. ASSET_QUOTA_BYTES: what one project
# may hand in altogether; 0 for no limit. ASSET_RETENTION_DAYS: how long that is kept, or as long as
# a task that has not ended needs it.
ASSET_MAX_BYTES = env.int("ASSET_MAX_BYTES", default=536_870_912)
ASSET_QUOTA_BYTES = env.int("ASSET_QUOTA_BYTES", default=21_474_836_480)
ASSET_RETENTION_DAYS = env.int("ASSET_RETENTION_DAYS", default=30)
# ASSET_PROXY, ASSET_PROXY_GUARDS: forward proxy to what an asset's URL names, as WEBHOOK_PROXY.
ASSET_PROXY = env.str("ASSET_PROXY", default="")
ASSET_PROXY_GUARDS = env.bool("ASSET_PROXY_GUARDS", default=False)
# A web server that sends the files itself (MEDIA_ACCEL_PREFIX) must read them, but not VAR_DIR.
_is_inside = Path(MEDIA_ROOT).resolve().is_relative_to(VAR_DIR.resolve())
FILE_UPLOAD_PERMISSIONS = 0o600 if _is_inside else 0o644
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700 if _is_inside else 0o755
S3_BUCKET = env.str("S3_BUCKET", default="")
# S3_PREFIX: our part of the bucket, so that several installations can share it.
S3_PREFIX = env.str("S3_PREFIX", default="").strip("/")
_media_storage: dict[str, Any] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": MEDIA_ROOT},
}
if S3_BUCKET:
    _media_storage = {
        "BACKEND": "tasks_app.media.s3.S3",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "location": S3_PREFIX,
            "endpoint_url": env.str("S3_ENDPOINT_URL", default="") or None,
            # S3_REGION: unless the AWS_ variables give it. S3_ADDRESSING_STYLE: auto, path (the
            # bucket in the path, as many self-hosted servers need it) or virtual.
            "region_name": env.str("S3_REGION", default="") or None,
            "addressing_style": env.str("S3_ADDRESSING_STYLE", default="auto"),
            "file_overwrite": False,
            "querystring_auth": True,
            "querystring_expire": 3600,
        },
    }
STORAGES = {
    "default": _media_storage,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = str(VAR_DIR / "static")
Path(STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # whitenoise warns about an absent one
WHITENOISE_USE_FINDERS = not IS_PRODUCTION

# Webhooks: see webhooks_app/conf.py for every key, its unit and its default.
_dev_networks = [] if IS_PRODUCTION else ["127.0.0.0/8", "::1/128"]
_dev_hosts = [] if IS_PRODUCTION else ["localhost", "127.0.0.1", "[::1]"]
WEBHOOKS: dict[str, Any] = {
    "BASE_URL": PUBLIC_URL,
    "SUBJECT_ADMIN": "admin:tasks_app_task_change",
    "SUBJECT_IS_UUID": True,
    # Major and minor only: receivers know it, and let it pass by it.
    "USER_AGENT": f"AI-Movie-Task-Service/{__version__.rpartition('.')[0]}",
    "ENGINE": env.str("WEBHOOK_ENGINE", default="worker"),
    "TIMEOUT_SECONDS": env.float("WEBHOOK_TIMEOUT_SECONDS", default=30.0),
    "CONNECTION_MAX_AGE_SECONDS": env.float("WEBHOOK_CONNECTION_MAX_AGE_SECONDS", default=60.0),
    # A lease lasts this much longer than the time-out: so long may a dead engine's messages wait.
    "LEASE_MARGIN_SECONDS": env.float("WEBHOOK_LEASE_MARGIN_SECONDS", default=15.0),
    "RETRY_POLICY": env.str("WEBHOOK_RETRY_POLICY", default="standard"),
    "REQUIRE_HTTPS": env.bool("WEBHOOK_REQUIRE_HTTPS", default=IS_PRODUCTION),
    "ALLOW_NETWORKS": env.list("WEBHOOK_ALLOW_NETWORKS", default=_dev_networks),
    "DENY_NETWORKS": env.list("WEBHOOK_DENY_NETWORKS", default=[]),
    "ALLOW_HOSTS": env.list("WEBHOOK_ALLOW_HOSTS", default=_dev_hosts),
    # WEBHOOK_PROXY: http://[user:password@]host:port or socks5://..., through which webhooks go.
    # WEBHOOK_PROXY_GUARDS: on sends names to it, which it judges; off sends judged addresses.
    "PROXY": env.str("WEBHOOK_PROXY", default=""),
    "PROXY_GUARDS": env.bool("WEBHOOK_PROXY_GUARDS", default=False),
    "RETENTION_DAYS": env.int("WEBHOOK_RETENTION_DAYS", default=30),
    "EVENT_TYPES": list(events.EVENT_TYPES),
    "DEAD_LETTER_ALERT": env.str("WEBHOOK_DEAD_LETTER_ALERT", default="20/10m"),
    "OPERATOR_ACTIONS": [
        *(
            f"{kind}.{verb}"
            for kind in ("user", "group")
            for verb in ("create", "change", "delete")
        ),
        *(f"api_key.{verb}" for verb in ("budget", "create", "revoke")),
        *("project.change", "remote_server.pause", "remote_server.resume", "sweep"),
        *("storage.adopt", "storage.look", "storage.seen", "task.cancel", "task.retry"),
    ],
    # WEBHOOK_SECRET_KEYS: Fernet keys that encrypt stored secrets, newest first.
    "SECRET_KEYS": env.list("WEBHOOK_SECRET_KEYS", default=[]),
    "ED25519_PRIVATE_KEY": env.str("WEBHOOK_ED25519_PRIVATE_KEY", default=""),
    "ED25519_PUBLIC_KEYS": env.list("WEBHOOK_ED25519_PUBLIC_KEYS", default=[]),
}

# Bodies above this are answered with 413.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
# What a form may have besides its file, which has a limit of its own: ASSET_MAX_BYTES.
UPLOAD_FORM_BYTES = 65_536

# METRICS_ALLOW_NETWORKS: comma-separated networks that may read /metrics without a key.
METRICS_ALLOW_NETWORKS = env.networks("METRICS_ALLOW_NETWORKS")
# ADMIN_ALLOW_NETWORKS: comma-separated networks that may see the admin; empty for all.
ADMIN_ALLOW_NETWORKS = env.networks("ADMIN_ALLOW_NETWORKS")
# METRICS_DIR: where the processes of this machine keep their counters; a local disk.
METRICS_DIR = env.str("METRICS_DIR", default=str(VAR_DIR / "metrics"))

USE_TZ = True
TIME_ZONE = "UTC"  # Django's default would put another zone's time into every log line
LANGUAGE_CODE = "en-gb"
USE_I18N = False
# The admin shows times as the log does, to the second and in UTC.
FORMAT_MODULE_PATH = "moviesvc.formats"
APPEND_SLASH = False

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _is_https
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # no script of ours reads either
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
if _is_https:  # with this prefix browsers refuse a cookie that another subdomain set
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SESSION_COOKIE_AGE = 12 * 3600
# Not in the session's row: the message that shows a new API key would be stored in the database.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=IS_PRODUCTION and _is_https)
# Called by load balancers and collectors from inside, over plain http.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/health(/ready)?$", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if _is_https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _is_https
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# TRUSTED_PROXIES: how many reverse proxies stand in front (for X-Forwarded-*).
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
ADMIN_PREFIX = "/admin/"  # errors below it are pages for people, everywhere else problem+json
LOGIN_URL = "/admin/login/"

# LOG_FORMAT: json or console; LOG_LEVEL: DEBUG, INFO, WARNING, ERROR.
LOG_FORMAT = env.str("LOG_FORMAT", default="json" if IS_PRODUCTION else "console")
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False  # ProblemMiddleware binds the address
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # ProblemMiddleware checked or made it
from moviesvc.logs import logging_config  # noqa: E402 - needs nothing but the two values above

LOGGING_CONFIG = None
logging_config(LOG_FORMAT, LOG_LEVEL)
from moviesvc.metrics.processes import ProcessMetrics  # noqa: E402 - before the first metric is made

PROCESS_METRICS = ProcessMetrics(Path(METRICS_DIR))
PROCESS_METRICS.use()
if otel.use(os.environ):
    MIDDLEWARE.insert(0, "moviesvc.otel.Requests")

if IS_PRODUCTION and os.environ.get("FAULT_INJECTION"):
    raise ImproperlyConfigured("FAULT_INJECTION is for tests; unset it in production.")
