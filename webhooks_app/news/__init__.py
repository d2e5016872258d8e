"""What are subscribers told of receivers themselves: that one fails, is disabled, recovered?"""

from webhooks_app.news.tell import (
    INSTALLATION,
    disable_endpoint,
    tell_of,
    tell_of_endpoint,
    watch_dead_letters,
)

__all__ = [
    "INSTALLATION",
    "disable_endpoint",
    "tell_of",
    "tell_of_endpoint",
    "watch_dead_letters",
]
