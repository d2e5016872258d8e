"""Through which forward proxy is a provider called? PROVIDER_PROXY, read.

``http://proxy:3128`` is for every provider that has no entry of its own, ``fal=socks5://...`` for
one, and ``comfyui=off`` lets one be called directly.
"""

from __future__ import annotations

import re

from webhooks_app.egress import Proxy, read_proxy

OFF = "off"
#: A URL has a colon before its first "=".
_NAMED = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=(.*)", re.DOTALL)


def proxy_for(provider: str) -> Proxy | None:
    """Return the proxy of one provider, None where it is called directly.

    Raises:
        ValueError: the entry cannot be used.
    """
    from django.conf import settings

    entries = dict(_entries())
    text = entries.get(provider, entries.get("", ""))
    if text == OFF:
        return None
    return read_proxy(text, is_guard=settings.PROVIDER_PROXY_GUARDS)


def problems(known: frozenset[str]) -> list[str]:
    """Return what is wrong with the setting; ``known`` are the names of providers."""
    found = []
    seen = set()
    for name, text in _entries():
        if name and name not in known:
            found.append(f"PROVIDER_PROXY: there is no provider {name}.")
        if name in seen:
            found.append(f"PROVIDER_PROXY: two proxies are for {name or 'all others'}.")
        seen.add(name)
        try:
            read_proxy("" if text == OFF else text)
        except ValueError as error:
            found.append(f"PROVIDER_PROXY{f' of {name}' if name else ''}: {error}.")
    return found


def _entries() -> list[tuple[str, str]]:
    from django.conf import settings

    named = ((_NAMED.fullmatch(entry), entry) for entry in settings.PROVIDER_PROXY)
    return [
        (found[1], found[2].strip()) if found else ("", entry.strip()) for found, entry in named
    ]
