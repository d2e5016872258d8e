"""In which private networks may a provider's base URL be? PROVIDER_ALLOW_NETWORKS, read.

``comfyui=192.168.1.0/24`` is for one provider. An entry without a name is for every provider that
has none of its own, whose base URL must then lie in it.
"""

from __future__ import annotations

import ipaddress

from webhooks_app.conf import Network


def networks_for(provider: str) -> tuple[Network, ...]:
    """Return the networks of one provider, none for any public address.

    Raises:
        ValueError: an entry is no network.
    """
    named = [(name, text) for name, text in _entries() if name in ("", provider)]
    own = [text for name, text in named if name] or [text for _, text in named]
    return tuple(ipaddress.ip_network(text) for text in own)


def problems(known: frozenset[str]) -> list[str]:
    """Return what is wrong with the setting; ``known`` are the names of providers."""
    found = []
    for name, text in _entries():
        if name and name not in known:
            found.append(f"PROVIDER_ALLOW_NETWORKS: there is no provider {name}.")
        try:
            ipaddress.ip_network(text)
        except ValueError:
            found.append(f"PROVIDER_ALLOW_NETWORKS: {text} is no network.")
    return found


def _entries() -> list[tuple[str, str]]:
    from django.conf import settings

    found = []
    for entry in settings.PROVIDER_ALLOW_NETWORKS:
        name, _, text = entry.rpartition("=")
        found.append((name.strip(), text.strip()))
    return found
