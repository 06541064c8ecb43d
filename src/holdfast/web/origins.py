"""Whose pages may act with a visitor's cookie: an exact list of origins, and what the browser says of a request.

A browser sends the cookie along whoever wrote the page. So what changes state, and what opens a WebSocket, is also
judged by two headers that no page can set: `Sec-Fetch-Site` and `Origin`. Neither is compared with the `Host`
header: behind a proxy it is another name, and whoever sends the request writes it. The order follows OWASP's
cheat sheet on CSRF and ASVS 5.0, 3.5.1 and 4.4.2: Fetch-Metadata first, `Origin` where that does not decide, and
refusal where there is neither.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

from starlette.types import Scope

from holdfast.sessions.errors import InvalidArgument

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""The methods that change nothing (RFC 9110, 9.2.1), and so need no check."""

_OWN_SITE: Final = frozenset(("same-origin", "none"))
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#:@\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?"
)
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


class Origins:
    """The origins whose pages may act with a cookie, besides the application's own where the browser vouches for it.

    Compared byte for byte with what browsers send: `https://example.com`, `http://localhost:8000`.
    """

    __slots__ = ("allowed",)

    allowed: frozenset[str]

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Take the list. Raises `InvalidArgument` for a spelling that no browser sends, saying what to write."""
        if isinstance(allowed, str | bytes):
            raise InvalidArgument("the allowed origins are a list of strings, not one string")
        self.allowed = frozenset(checked_origin(each) for each in allowed)

    def __repr__(self) -> str:
        return f"Origins({sorted(self.allowed)})"

    def permits_unsafe(self, scope: Scope) -> bool:
        """Whether a request that changes something may act with its cookie.

        Yes when the browser says that it comes from this very origin or from the user's own hand (`Sec-Fetch-Site`:
        `same-origin`, `none`), or when its one `Origin` is on the list. Browsers leave `Sec-Fetch-Site` out over
        plain HTTP, old ones always; then only the list decides. No when it carries neither, as programs do:
        they use a bearer token, which needs no such check.
        """
        return self._judged(scope) is True

    def permits_log_in(self, scope: Scope) -> bool:
        """Whether a request that changes something may begin a session: yes, unless it names another origin.

        Otherwise a page elsewhere could log its visitor in as somebody else, and read later what that visitor does
        (OWASP's cheat sheet on CSRF, login CSRF). There is no session to protect yet, so a program that sends
        neither header may.
        """
        return self._judged(scope) is not False

    def _judged(self, scope: Scope) -> bool | None:
        """Whether a page that may act made the request; `None` when nothing says who made it."""
        sites, origins = _headers(scope)
        if len(sites) > 1 or len(origins) > 1:
            # No browser sends two. Which of them the next reader would believe is anyone's guess.
            return False
        if sites and sites[0] in _OWN_SITE:
            return True
        if origins:
            return origins[0] in self.allowed
        return False if sites else None

    def permits_handshake(self, scope: Scope, *, cookie: bool) -> bool:
        """Whether a WebSocket handshake may go on; `cookie` says that a cookie is its credential.

        An `Origin` that is there must be the only one and on the list. Only a handshake with another credential,
        which a page cannot send along by accident, may have none.
        """
        _, origins = _headers(scope)
        if not origins:
            return not cookie
        return len(origins) == 1 and origins[0] in self.allowed


def checked_origin(origin: str) -> str:
    """The origin, if it is spelled as browsers send it. Raises `InvalidArgument` otherwise, saying what to write."""
    if not isinstance(origin, str):
        raise InvalidArgument(f"an allowed origin is a string, not {type(origin).__name__}")
    if origin == "*":
        raise InvalidArgument('"*" would let every page act with the visitor\'s cookie; name the origins one by one')
    if origin == "null":
        raise InvalidArgument('"null" is what sandboxed frames of any page send, so it cannot be allowed')
    if not origin.isascii():
        raise InvalidArgument("browsers send a host in ASCII; write what location.origin shows there (https://xn--…)")
    wanted = _as_browsers_send(origin)
    if wanted is None:
        raise InvalidArgument(f"{origin!r} is not an origin; write scheme, host and port: https://example.com")
    if origin != wanted:
        raise InvalidArgument(f"{origin!r} is not how browsers spell an origin; write {wanted!r}")
    return origin


def _as_browsers_send(text: str) -> str | None:
    """What a browser would send for it; `None` when it is no address at all."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(match["scheme"].lower(), match["scheme"].lower())
    host = _host(match["host"])
    if host is None:
        return None
    port = (match["port"] or "").lstrip("0") or ("0" if match["port"] else "")
    shown = "" if not port or port == _DEFAULT_PORTS.get(scheme) else f":{port}"
    return None if port and int(port) > 65_535 else f"{scheme}://{host}{shown}"


def _host(text: str) -> str | None:
    if text.startswith("["):
        try:
            return f"[{IPv6Address(text[1:-1]).compressed}]"
        except ValueError:
            return None
    host = text.lower().removesuffix(".")
    return host if _HOST.fullmatch(host) else None


def _headers(scope: Scope) -> tuple[list[str], list[str]]:
    """Every `Sec-Fetch-Site` and every `Origin`, as they came."""
    sites: list[str] = []
    origins: list[str] = []
    for name, value in scope["headers"]:
        if name == b"origin":
            origins.append(value.decode("latin-1"))
        elif name == b"sec-fetch-site":
            sites.append(value.decode("latin-1"))
    return sites, origins
