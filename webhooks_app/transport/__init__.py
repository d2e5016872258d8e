"""How does one request go out, and what came back?"""

from webhooks_app.transport.client import Transport
from webhooks_app.transport.download import FetchResult
from webhooks_app.transport.wire import ClientIdentity

__all__ = ["ClientIdentity", "FetchResult", "Transport"]
