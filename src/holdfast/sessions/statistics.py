"""What a store can say about its sessions as a whole, for those that can: answers, and the question."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from holdfast.sessions.errors import InvalidArgument

MOST_HOURS: Final = 24 * 366
"""How many hours back may be asked for: a year."""
MOST_SHARES: Final = 1000
"""How many users, and how many devices, may be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What happened in one hour, to sessions that are still kept."""

    hour: datetime
    """When it began (aware, UTC)."""
    created: int
    ended: int
    """By anybody, or noted as run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The sessions of one user, or of one kind of device."""

    name: str | None
    """The user's id, or the device; `None` for sessions without one."""
    live: int
    kept: int
    """Live and ended together."""
    requests: int
    """How often they were validated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long sessions lasted that have ended, in seconds: by nearest rank, so each is one that occurred."""

    sessions: int
    median: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """One look at everything that is kept. An ended session is kept until its retention is over."""

    at: datetime
    """The store's clock (aware, UTC)."""
    live: int
    ended: int
    hours: list[Hour]
    """The newest first; only hours in which something happened."""
    users: list[Share]
    """Those with the most live sessions first; without anonymous visitors."""
    devices: list[Share]
    """By the metadata's key `device`; the most live sessions first."""
    durations: Durations | None
    """`None` when no session that ended is kept."""


@runtime_checkable
class Statistical(Protocol):
    """A store that can count and group its sessions. Beyond the contract: a store need not."""

    async def statistics(self, hours: int, top: int) -> Statistics:
        """Everything at once: the last so many hours, and at most so many users and devices.

        Reads every kept session, so it is for people and not for every scrape. Raises `InvalidArgument` beyond
        `MOST_HOURS` or `MOST_SHARES`, and below one, and `StoreUnavailable`.
        """


def refuse_extent(hours: int, top: int) -> None:
    """Raise `InvalidArgument` for so many hours, users and devices as a store need not answer."""
    if not (1 <= hours <= MOST_HOURS and 1 <= top <= MOST_SHARES):
        raise InvalidArgument(f"hours is a number from 1 to {MOST_HOURS}, and top one from 1 to {MOST_SHARES}")
