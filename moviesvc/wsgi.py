"""What does the web server call? Django, behind the event loop that waits for clients."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from moviesvc.run import lifeline

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "moviesvc.settings")
application = get_wsgi_application()

from django.conf import settings  # noqa: E402 - after Django is set up, like what follows

from moviesvc.clients.uploads import LargeCallbacks, Uploads  # noqa: E402
from moviesvc.rsgi import Front  # noqa: E402
from moviesvc.run.collector import collect_seldom  # noqa: E402
from webhooks_app.signing.store import require_readable_at_boot  # noqa: E402

require_readable_at_boot()
# Objects loaded so far stay, and those of a request die with it: collect seldom.
gc.freeze()
collect_seldom()
#: Called by granian.
front = Front(
    application,
    threads=settings.WEB_THREADS,
    limit_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
    transfers=settings.MEDIA_TRANSFERS,
    uploads=[
        Uploads(
            "/api/v1/assets",
            seats=settings.UPLOADS,
            limit_bytes=settings.ASSET_MAX_BYTES + settings.UPLOAD_FORM_BYTES,
            pause_seconds=settings.BODY_TIMEOUT_SECONDS,
        ),
        LargeCallbacks(
            settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
            seats=settings.PROVIDER_CALLBACK_SEATS,
            limit_bytes=settings.PROVIDER_CALLBACK_MAX_BYTES + 1,
            pause_seconds=settings.BODY_TIMEOUT_SECONDS,
        ),
    ],
    body_seconds=settings.BODY_TIMEOUT_SECONDS,
    write_seconds=settings.WRITE_TIMEOUT_SECONDS,
)
lifeline.watch_if_asked()
