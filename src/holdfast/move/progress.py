"""How far a mover is, for whoever watches it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Doing = Literal[
    "looking", "backing up", "copying", "following", "comparing", "cutting over", "taking back", "going back", "ending"
]
"""What a mover does. `following` applies SQLite's changes to PostgreSQL, `taking back` PostgreSQL's to SQLite."""


@dataclass(slots=True)
class Progress:
    """How far a mover is with what it does. The mover changes it as it goes on, and tells of it after each step."""

    doing: Doing = "looking"
    rows: int = 0
    """How many rows are done of it."""
    of: int | None = None
    """How many there are in all; `None` when that is not known."""
    since: int = 0
    """How many of the rows were done before this mover came to it."""
    seconds: float = 0.0
    """For how long this mover has been doing it."""
    lag: int = 0
    """Changes in the store with the authority that are noted and not applied yet."""
    commit: float | None = None
    """Seconds that a commit in the store with the authority took when it was last measured; `None` before."""
    held_back: float = 0.0
    """Seconds in all for which the mover stood still because those commits were slow."""

    def begin(self, doing: Doing, of: int | None = None, since: int = 0) -> None:
        """Do something else from now on."""
        self.doing, self.of, self.since, self.rows, self.seconds = doing, of, since, since, 0.0

    @property
    def rate(self) -> float | None:
        """Rows a second; `None` before there is anything to reckon it from."""
        done = self.rows - self.since
        return done / self.seconds if done > 0 and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """About how long it will still take; `None` when nobody can say."""
        rate = self.rate
        return None if rate is None or self.of is None else max(self.of - self.rows, 0) / rate


Tell = Callable[[Progress], None]
"""Hears how far it is, often: it must not wait."""


def tell_nobody(_: Progress) -> None:
    """For callers that do not watch."""
