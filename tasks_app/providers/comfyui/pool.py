"""Which ComfyUI servers are there? The settings, read and judged.

A server is called by its label wherever people read of it: its address may hold a password, and
tells where a studio's machines are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tasks_app.providers import networks, proxies
from tasks_app.providers.remote.client import Server

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,49}")


class BadPool(ValueError):
    """The settings name no usable pool; the text says what is wrong."""


def servers(name: str) -> list[Server]:
    """Return the servers of COMFYUI_URLS in their order.

    Args:
        name: of the provider, whose private networks they may be in.

    Raises:
        BadPool: a setting is wrong.
    """
    from django.conf import settings

    limits = _limits(settings.COMFYUI_CONCURRENCY)
    headers = settings.COMFYUI_HEADERS
    found: dict[str, Server] = {}
    for number, entry in enumerate(settings.COMFYUI_URLS, 1):
        label, url = _split(entry, number)
        if label in found:
            raise BadPool(f"COMFYUI_URLS: the label {label} is given twice.")
        base_url, own = _without_credentials(url, label)
        sent = {**own, **_headers(headers, "*"), **_headers(headers, label)}
        limit = limits.get(label, limits.get("", 1))
        own_networks, proxy = networks.networks_for(name), proxies.proxy_for(name)
        found[label] = Server(label, base_url, sent, own_networks, limit, proxy)
    if unknown := sorted({*limits, *headers} - {*found, "", "*"}):
        raise BadPool(f"There is no server {unknown[0]} in COMFYUI_URLS.")
    return list(found.values())


def _split(entry: str, number: int) -> tuple[str, str]:
    """Return label and URL of ``label=url``; the label is made up where there is none."""
    label, is_labelled, url = entry.partition("=")
    if not is_labelled or "://" in label:  # the "=" of a query is no label's
        return f"comfyui-{number}", entry.strip()
    if not LABEL.fullmatch(label.strip()):
        raise BadPool(f"COMFYUI_URLS: entry {number} has no usable label.")
    return label.strip(), url.strip()


def _without_credentials(url: str, label: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its user and password, and the header that carries them."""
    parts = urlsplit(url)
    try:
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment:
        raise BadPool(f"COMFYUI_URLS: {label} needs an address such as http://10.1.2.3:8188.")
    if parts.username is None:
        return url, {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    host = parts.netloc.rpartition("@")[2]
    token = base64.b64encode(pair.encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {token}"}


def _headers(configured: Any, label: str) -> dict[str, str]:
    if not isinstance(configured, Mapping):
        raise BadPool('COMFYUI_HEADERS: an object such as {"gpu-a": {"X-Token": "..."}}.')
    found = configured.get(label, {})
    if not isinstance(found, Mapping) or not all(
        isinstance(text, str) and not re.search(r"[\r\n]", text) for text in found.values()
    ):
        raise BadPool(f"COMFYUI_HEADERS: {label} needs an object of texts.")
    return dict(found)


def _limits(entries: list[str]) -> dict[str, int]:
    """Return the most jobs at once by label, "" for all others."""
    found = {}
    for entry in entries:
        label, _, number = entry.rpartition("=")
        if not number.strip().isdecimal() or int(number) < 1:
            raise BadPool("COMFYUI_CONCURRENCY: a number from 1 up, or label=number.")
        found[label.strip()] = int(number)
    return found
