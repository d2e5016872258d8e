"""How does one request go out, and what came back?"""

from webhooks_app.transport.client import Transport
from webhooks_app.transport.download import FetchResult

__all__ = ["FetchResult", "Transport"]
