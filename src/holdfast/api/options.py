"""What the router may be told, as plain values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from holdfast.web.cookies import CookieOptions
from holdfast.web.origins import Origins


def _unobserved(_: str) -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOptions:
    """Which routes are on, and their limits."""

    allow_anonymous: bool = False
    """Whether a session without a user may be created without a credential."""
    anonymous_per_minute: int = 10
    """Such sessions that one client address may create in a minute."""
    anonymous_total_per_minute: int = 600
    """Such sessions that all clients of this process together may create in a minute."""
    allow_extend: bool = False
    """Whether a session's own token may extend it."""
    allow_metadata: bool = False
    """Whether a session's own token may change its metadata."""
    cookie: CookieOptions | None = field(default_factory=CookieOptions)
    """The cookie that may carry a session's own token; `None` when only a bearer does."""
    origins: Origins = field(default_factory=Origins)
    """Whose pages may change something with that cookie, besides those of this very origin."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose `X-Forwarded-For` is believed."""
    move: Callable[[], dict[str, Any]] | None = None
    """Says how a move between two stores stands, as `MoveAnswer` describes it; `None` where there is one store."""
    observe: Callable[[str], None] = _unobserved
    """Called with `created`, `validated` or `refused`, for metrics."""
