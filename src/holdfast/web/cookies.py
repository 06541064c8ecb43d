"""The cookie that carries a session's token: what it is set with, and a strict reading of what comes back.

A browser gives `__Host-` names a promise that the server has to keep its half of: no other host, no other path and
no plain HTTP could have set them. A server that trims the names it reads, takes the last of two, or unquotes values
breaks that promise, because then a cookie of another name passes for this one. So the raw header is read here, byte
by byte, and whatever could be read in two ways is refused. RFC 6265bis (draft 22) is the source of the rules for
names, prefixes and attributes.
"""

import logging
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Self

from starlette.types import Scope

from holdfast.sessions.errors import InvalidArgument

log = logging.getLogger("holdfast.web")

SameSite = Literal["lax", "strict"]

DEFAULT_NAME: Final = "__Host-session"
DEVELOPMENT_NAME: Final = "session-insecure-dev"
MAX_COOKIE: Final = 4096
"""Name and value together, in bytes. Browsers drop what is longer (RFC 6265bis 5.6; OWASP ASVS 5.0, 3.3.5)."""
MAX_AGE: Final = 400 * 24 * 3600
"""Browsers keep no cookie longer than 400 days (RFC 6265bis 5.5)."""

_MAX_ATTRIBUTE: Final = 1024
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[!#-+\--:<-\[\]-~]+")
_PATH: Final = re.compile(r"/[!-:<-~]*")
_DOMAIN: Final = re.compile(r"(?!-)[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_TOKEN_BYTES: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# No name begins or ends with these, so whoever trims them sees another name than the browser did.
_TRIMMED: Final = bytes(byte for byte in range(256) if byte not in _TOKEN_BYTES)
_LONG_AGO: Final = "Thu, 01 Jan 1970 00:00:00 GMT"

_warned: set[str] = set()


class Ambiguous(Enum):
    """The one value of this type says that a request's session cookie can be read in more than one way."""

    AMBIGUOUS = "ambiguous"


AMBIGUOUS: Final = Ambiguous.AMBIGUOUS
"""There is something where the session cookie should be, and it is no credential. Never a reason to look elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieOptions:
    """What the session cookie is called and set with. It is always HttpOnly: no script ever needs the token."""

    name: str = DEFAULT_NAME
    """With the prefix `__Host-` the browser takes it over HTTPS only, for this host only, and for all paths."""
    same_site: SameSite = "lax"
    """`lax`: a link from elsewhere arrives with the session. `strict`: it arrives without."""
    max_age: int | None = None
    """How long the browser keeps it, in seconds, up to 400 days; `None` until the browser ends its own session.

    The session's end is decided by the store either way.
    """
    path: str = "/"
    """Where the browser sends it. It keeps no other application on the same host from reading it."""
    domain: str | None = None
    """A domain whose hosts all receive it; `None` for this host alone."""
    secure: bool = True
    """Whether the browser sends it over HTTPS only. Without it anyone on the way can read the token."""

    def __post_init__(self) -> None:
        """Refuse what a browser would refuse, or read otherwise. Raises `InvalidArgument`."""
        _check_name(self.name)
        if self.same_site not in ("lax", "strict"):
            raise InvalidArgument('same_site is "lax" or "strict"')
        if self.max_age is not None and (type(self.max_age) is not int or not 1 <= self.max_age <= MAX_AGE):
            raise InvalidArgument(f"max_age is a whole number of seconds from 1 to {MAX_AGE}, or None")
        if len(self.path) > _MAX_ATTRIBUTE or _PATH.fullmatch(self.path) is None:
            raise InvalidArgument('path begins with "/" and has printable ASCII characters other than ";"')
        if self.domain is not None and (len(self.domain) > 253 or _DOMAIN.fullmatch(self.domain) is None):
            raise InvalidArgument('domain is a host name in lower case without a dot in front, such as "example.com"')
        self._check_prefix()

    @classmethod
    def development(cls) -> Self:
        """A cookie for one's own machine over plain HTTP, under another name, so that it never passes for the real one.

        The first time that a process sets it, or any other cookie without Secure, the log says what that means.
        """
        return cls(name=DEVELOPMENT_NAME, secure=False)

    def _check_prefix(self) -> None:
        # Browsers know the prefixes in any case.
        name = self.name.lower()
        if name.startswith("__host-") and not (self.secure and self.path == "/" and self.domain is None):
            raise InvalidArgument(
                'a name with the prefix __Host- needs secure=True, path="/" and no domain, or browsers drop the '
                "cookie; for plain HTTP on your own machine use CookieOptions.development()"
            )
        if name.startswith(("__secure-", "__http-")) and not self.secure:
            raise InvalidArgument(f"a name with the prefix {self.name.split('-')[0]}- needs secure=True")

    @property
    def attributes(self) -> str:
        """What follows name and value in the header. The same for setting and for deleting, or nothing is deleted."""
        parts = [f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.secure:
            parts.append("Secure")
        parts += ["HttpOnly", f"SameSite={self.same_site.capitalize()}"]
        return "; ".join(parts)


def set_cookie(options: CookieOptions, token: str) -> str:
    """The value of a `Set-Cookie` header that gives the browser a token.

    Raises `InvalidArgument` for a token that no cookie can hold as it is.
    """
    if _VALUE.fullmatch(token) is None or len(options.name) + len(token) > MAX_COOKIE:
        raise InvalidArgument("this token fits in no cookie")
    if not options.secure:
        _warn_once(options.name)
    kept = "" if options.max_age is None else f"; Max-Age={options.max_age}"
    return f"{options.name}={token}; {options.attributes}{kept}"


def delete_cookie(options: CookieOptions) -> str:
    """The value of a `Set-Cookie` header that makes the browser forget the cookie."""
    return f"{options.name}=; {options.attributes}; Max-Age=0; Expires={_LONG_AGO}"


def session_cookie(scope: Scope, options: CookieOptions) -> str | Ambiguous | None:
    """The value of the session cookie of a request or a handshake; `None` when it has none.

    `AMBIGUOUS` when there is more than one, in one header line or several, when a name is the session cookie's only
    once something is trimmed from it, when a cookie without a name has a value that reads like the session cookie,
    and when the value has a quote or any other byte that no cookie value has. Other cookies may be anything.
    """
    wanted = options.name.encode("ascii")
    found: str | None = None
    for header, line in scope["headers"]:
        # ASGI gives names in lower case. A header may come in several lines, as HTTP/2 allows.
        if header != b"cookie" or wanted not in line:
            continue
        for part in line.split(b";"):
            # The one space that separates two pairs. Any other is part of a name, and makes it another name.
            name, equals, value = part.removeprefix(b" ").partition(b"=")
            if name == wanted and equals:
                if found is not None or (found := _plain(wanted, value)) is None:
                    return AMBIGUOUS
            elif _looks_like(part, wanted):
                return AMBIGUOUS
    return found


def _plain(name: bytes, value: bytes) -> str | None:
    """The value as text, if it has the bytes and the length that a cookie may have."""
    if len(name) + len(value) > MAX_COOKIE:
        return None
    text = value.decode("latin-1")
    return text if _VALUE.fullmatch(text) else None


def _looks_like(part: bytes, wanted: bytes) -> bool:
    """Whether somebody who trims, unquotes or skips an empty name would take it for the session cookie.

    Some browsers send a cookie without a name as its bare value.
    """
    return part.lstrip(_TRIMMED).partition(b"=")[0].rstrip(_TRIMMED) == wanted


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or len(name) > MAX_COOKIE // 2:
        raise InvalidArgument("the name of a cookie has letters, digits and !#$%&'*+-.^_`|~ only")


def _warn_once(name: str) -> None:
    if name in _warned:
        return
    _warned.add(name)
    log.warning(
        "the session cookie %s is set without Secure: it travels over plain HTTP, and whoever sees the traffic can "
        "take the session over; this is for development on one machine",
        name,
    )
