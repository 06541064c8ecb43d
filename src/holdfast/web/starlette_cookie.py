"""The cookie of the drop-in: written as Starlette's session middleware writes its own, read by our strict parser."""

import logging
from typing import Any, Literal

from starlette.types import Scope

from holdfast.sessions.errors import InvalidArgument
from holdfast.web.cookies import CookieOptions
from holdfast.web.credential import credential_of

log = logging.getLogger("holdfast.web")

SameSite = Literal["lax", "strict", "none"]


class StarletteCookie:
    """Name and attributes. More is allowed than in `CookieOptions`, which does not know `none` and `partitioned`."""

    def __init__(
        self,
        name: str,
        *,
        max_age: int | None,
        path: str,
        same_site: SameSite,
        https_only: bool,
        domain: str | None,
        partitioned: bool,
    ) -> None:
        """Raises `InvalidArgument` for what a browser would refuse or read otherwise."""
        if same_site not in ("lax", "strict", "none"):
            raise InvalidArgument('same_site is "lax", "strict" or "none"')
        if max_age is not None and type(max_age) is not int:
            raise InvalidArgument("max_age is a whole number of seconds, or None")
        # Checks names and prefixes, and is what the parser knows of the cookie.
        self._read = CookieOptions(name=name, path=path, secure=https_only, domain=_checkable(domain))
        self._warns = not https_only
        self._name = name
        self._path = path
        self._kept = "" if max_age is None else f"Max-Age={max_age}; "
        flags = ["httponly", f"samesite={same_site}"]
        flags += ["secure"] if https_only else []
        flags += [f"domain={domain}"] if domain is not None else []
        flags += ["partitioned"] if partitioned else []
        self._flags = "; ".join(flags)

    def token(self, scope: Scope) -> str | None:
        """The value of the cookie; `None` without one, and for one that can be read in two ways (S-30)."""
        return credential_of(scope, self._read, bearer=False).token

    def setting(self, token: str) -> str:
        """The value of the header that gives the browser a token, and renews how long it keeps it."""
        if self._warns:
            self._warns = False
            log.warning(
                "the session cookie %s is set without Secure: it travels over plain HTTP too, and whoever sees it can "
                "take the session over; pass https_only=True where there is HTTPS",
                self._name,
            )
        return f"{self._name}={token}; path={self._path}; {self._kept}{self._flags}"

    def deleting(self) -> str:
        """The value of the header that makes the browser forget it."""
        return f"{self._name}=null; path={self._path}; expires=Thu, 01 Jan 1970 00:00:00 GMT; {self._flags}"


def _checkable(domain: Any) -> str | None:
    """A domain as `CookieOptions` takes it. Browsers ignore a dot in front and the case (RFC 6265bis, 5.6.3)."""
    return domain.removeprefix(".").lower() if isinstance(domain, str) else domain
