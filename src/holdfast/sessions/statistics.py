"""What a store can say about its sessions as a whole, for those that can: answers, and the question."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable


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

        Reads every kept session, so it is for people and not for every scrape. Raises `StoreUnavailable`.
        """
