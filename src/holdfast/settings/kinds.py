"""The kinds of values that settings have: what the text may be, and how it becomes a value."""

import math
import re
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Network = IPv4Network | IPv6Network

MIN_CREDENTIAL: Final = 32
_MAX_IDENTIFIER: Final = 63
_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
_FLAGS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


class Kind(NamedTuple):
    """How the text of a variable becomes a value."""

    allowed: str
    """What the text may be, as the errors and the reference page say it."""
    parse: Callable[[str], Any]
    """Raises `ValueError` or `KeyError` for other text; the message is dropped, it could repeat a secret."""


def number(low: float, high: float, unit: str) -> Kind:
    """A number of something, fractions allowed."""
    return Kind(f"{unit}, from {low:.12g} to {high:.12g}", partial(_number, low=low, high=high))


def number_or_none(low: float, high: float, unit: str) -> Kind:
    """A number of something, or the word `none`."""
    allowed = f"{unit}, from {low:.12g} to {high:.12g}, or none"
    return Kind(allowed, partial(_number_or_none, low=low, high=high))


def whole(low: int, high: int, unit: str) -> Kind:
    """A whole number of something."""
    return Kind(f"{unit}, a whole number from {low} to {high}", partial(_whole, low=low, high=high))


def whole_or_none(low: int, high: int, unit: str) -> Kind:
    """A whole number of something, or the word `none`."""
    allowed = f"{unit}, a whole number from {low} to {high}, or none"
    return Kind(allowed, partial(_whole_or_none, low=low, high=high))


def word(*words: str) -> Kind:
    """One of a few words, in upper or lower case."""
    return Kind(f"{', '.join(words[:-1])} or {words[-1]}", partial(_word, words=words))


def _number(text: str, low: float, high: float) -> float:
    value = float(text)
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError
    return value


def _number_or_none(text: str, low: float, high: float) -> float | None:
    return None if text.lower() == "none" else _number(text, low, high)


def _whole(text: str, low: int, high: int) -> int:
    value = int(text)
    if not low <= value <= high:
        raise ValueError
    return value


def _whole_or_none(text: str, low: int, high: int) -> int | None:
    return None if text.lower() == "none" else _whole(text, low, high)


def _word(text: str, words: tuple[str, ...]) -> str:
    return words[words.index(text.lower())]


def _flag(text: str) -> bool:
    return _FLAGS[text.lower()]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError from error


def _path(text: str) -> Path:
    return Path(_printable(text))


def _identifier(text: str) -> str:
    if len(text) > _MAX_IDENTIFIER or not (text.isascii() and text.isidentifier()):
        raise ValueError
    return text


def _address(text: str) -> str:
    if "://" not in text:
        raise ValueError
    return _printable(text)


def _credentials(text: str) -> tuple[str, ...]:
    values = tuple(part.strip() for part in text.split(","))
    if len(values) > 2 or any(len(value) < MIN_CREDENTIAL for value in values):
        raise ValueError
    if not all("!" <= character <= "~" for value in values for character in value):
        raise ValueError
    return values


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(","))


def _cookie_name(text: str) -> str:
    if _COOKIE_NAME.fullmatch(text) is None:
        raise ValueError
    return text


def _origins(text: str) -> tuple[str, ...]:
    values = tuple(part.strip() for part in text.split(","))
    if not all(_ORIGIN.fullmatch(value) for value in values):
        raise ValueError
    return values


FLAG: Final = Kind("true or false", _flag)
ADDRESS: Final = Kind("an address such as postgresql://user:password@host/name or sqlite:///path", _address)
PATH: Final = Kind("a path", _path)
ZONE: Final = Kind("an IANA name such as Europe/Berlin", _zone)
IDENTIFIER: Final = Kind("a plain SQL name: letters, digits and _, at most 63", _identifier)
HOST: Final = Kind("an address or a host name", _printable)
CREDENTIALS: Final = Kind(
    f"at least {MIN_CREDENTIAL} printable characters; two with a comma between, during a change",
    _credentials,
)
NETWORKS: Final = Kind("networks such as 10.0.0.0/8, with commas between", _networks)
COOKIE_NAME: Final = Kind("a name for a cookie: letters, digits, - and _", _cookie_name)
ORIGINS: Final = Kind("origins such as https://app.example.com, with commas between", _origins)
