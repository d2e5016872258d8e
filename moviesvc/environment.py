"""What does the environment say? A value that cannot be read stops the start, by its name.

django-environ alone takes ``30s`` for 30 and any unknown word for ``off``, ends in a traceback at
``x``, and takes a value that begins with ``$``, as a secret may, for another variable's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

_SWITCHES = dict.fromkeys(("on", "true", "yes", "1"), True) | dict.fromkeys(
    ("off", "false", "no", "0"), False
)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


#: What django-environ casts with -> how it is read here, and what it must be.
_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (_number, "a number, without a unit"),
    bool: (lambda text: _SWITCHES[text.lower()], "on or off"),
}


class Environment(environ.Env):  # type: ignore[misc]  # it has no types
    """The variables of the environment; every reader raises ImproperlyConfigured for a bad value.

    Empty is unset, but for texts and lists.
    """

    def get_value(
        self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False
    ) -> Any:
        text = self.ENVIRON.get(var)
        if text is None:
            return default
        if cast is str:
            return text
        if cast is list:
            return [each.strip() for each in text.split(",") if each.strip()]
        if not text.strip():
            return default
        if cast is json.loads:
            try:
                return json.loads(text)
            except ValueError as error:  # its text does not quote the value
                raise ImproperlyConfigured(f"{var} is no JSON: {error}.") from None
        return _read(var, text.strip(), *_READERS[cast])

    def choice(self, var: str, choices: Sequence[str], default: str) -> str:
        """Return one of some words."""
        text = self.ENVIRON.get(var) or default
        if text not in choices:
            raise ImproperlyConfigured(f"{var} is one of {', '.join(choices)}, not {text!r}.")
        return str(text)

    def numbers(self, var: str, default: list[float]) -> list[float]:
        """Return numbers that are separated by commas."""
        if var not in self.ENVIRON:
            return default
        return [_read(var, text, *_READERS[float]) for text in self.get_value(var, list)]

    def networks(self, var: str) -> list[IPv4Network | IPv6Network]:
        """Return networks that are separated by commas; none if it is unset."""
        try:
            return [ip_network(text) for text in self.get_value(var, list, [])]
        except ValueError as error:
            text = f"{var}: {error}; write networks such as 10.8.0.0/16."
            raise ImproperlyConfigured(text) from None


def _read(var: str, text: str, reader: Callable[[str], Any], must_be: str) -> Any:
    try:
        return reader(text)
    except (ValueError, KeyError):
        raise ImproperlyConfigured(f"{var} is {must_be}, not {text[:40]!r}.") from None
