"""How visitors present their sessions, and what they are trusted with, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from holdfast.sessions.errors import InvalidArgument
from holdfast.web.cookies import CookieOptions
from holdfast.web.origins import Origins

_VARY: Final = {
    (True, True): (b"Cookie", b"Authorization"),
    (True, False): (b"Cookie",),
    (False, True): (b"Authorization",),
    (False, False): (),
}
_CLEARABLE: Final = frozenset(("cache", "cookies", "storage", "executionContexts", "*"))


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitorOptions:
    """How visitors present themselves, and what they are trusted with."""

    cookie: CookieOptions | None = field(default_factory=CookieOptions)
    """The session cookie; `None` when no session comes by cookie."""
    bearer: bool = True
    """Whether `Authorization` is read. Where it is, it decides whenever it is there."""
    origins: Origins = field(default_factory=Origins)
    """Whose pages may act with the cookie besides those of this very origin."""
    clear_site_data: Sequence[str] = ()
    """What a browser forgets at log-out: `cache`, `cookies`, `storage`, `executionContexts` or `*`.

    `cookies` are those of the whole registrable domain, other hosts' included.
    """

    def __post_init__(self) -> None:
        """Refuse what browsers do not know. Raises `InvalidArgument`."""
        if isinstance(self.clear_site_data, str) or not _CLEARABLE.issuperset(self.clear_site_data):
            raise InvalidArgument(f"clear_site_data is a list of {', '.join(sorted(_CLEARABLE))}")

    @property
    def vary(self) -> Sequence[bytes]:
        """The request headers that an answer depends on once its session was looked at."""
        return _VARY[self.cookie is not None, self.bearer]
