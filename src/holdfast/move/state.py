"""Where a move stands: what both stores say, which pairs of it can be, and the errors of a move.

There is no state but in the two databases. Whoever looks at both knows the next step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import Authority

Phase = Literal[
    "preparing", "copying", "following", "cutting", "switched", "returning", "returned", "aborting", "completing"
]  # fmt: skip
"""How far PostgreSQL knows the move to have come."""

Reached = Callable[[str], None]
"""Told before each commit by the name of the step, and after it by that name and "done". For tests that stop there."""


NO_MOVE: Final = "no move is under way; begin one with holdfast move start"
OVER: Final = "the sessions were moved already, and PostgreSQL holds them; there is nothing left to do"
TAKEN_OVER: Final = "another process took the move over"


class MoveRefused(HoldfastError):
    """The move does not do what was asked. Nothing was lost; the message says why, and what to do."""


class StoresDiffer(MoveRefused):
    """The two stores do not hold the same, so that the authority stays where it is."""


class LeaseHeld(MoveRefused):
    """Another process moves these stores at the moment, or took over from this one. Repeat it when that one is gone."""


class WritesTooFast(MoveRefused):
    """More is written in the store that serves than is applied in the other one, so that it would never end."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("writes come faster than they are applied; try again when there are fewer")


@dataclass(frozen=True, slots=True)
class SqliteState:
    """What the SQLite file says."""

    authority: Authority
    store: UUID
    move: UUID | None
    """The move its triggers belong to; `None` without any."""
    capture: UUID | None
    """One unbroken stretch of its log: another one means that changes may be missing from it."""
    token: int
    """The highest token of a mover that it has seen."""
    flips: int
    """How often it has stopped accepting writes in this move."""
    head: int
    """The last number of its log."""
    whole: bool
    """Whether all triggers are in place."""


@dataclass(frozen=True, slots=True)
class PostgresqlState:
    """What PostgreSQL says."""

    authority: Authority
    phase: Phase | None
    """`None` when no move is under way."""
    move: UUID | None = None
    store: UUID | None = None
    """The identity of the SQLite file."""
    capture: UUID | None = None
    copying: str = ""
    """The table that is being copied."""
    copied: str | None = None
    """The last key of it that was copied, in hexadecimal form."""
    cursor: int = 0
    """The number in SQLite's log up to which changes are applied."""
    settled: int = 0
    """The flip after which everything was applied."""
    verified: int | None = None
    """The number in SQLite's log at which the last clean comparison of all rows began."""
    overdue: bool = False
    """Whether a decision under way, to cut over or to go back, has used up its time."""
    changed: bool = False
    """Whether changes wait to be taken back to SQLite."""
    noted: int = 0
    """How many may wait at most."""

    def is_where(self, other: "PostgresqlState") -> bool:
        """Whether another look found the move at this very place; not when it went there and back in between."""
        # Every change of hands towards PostgreSQL has settled a flip of its own.
        return (self.move, self.phase, self.settled) == (other.move, other.phase, other.settled)


_AUTHORITY: Final[dict[Phase | None, tuple[Authority, ...]]] = {
    None: ("here", "there"),
    "preparing": ("there",),
    "copying": ("there",),
    "following": ("there",),
    "cutting": ("there",),
    "switched": ("here",),
    "returning": ("pending",),
    "returned": ("there",),
    "aborting": ("there",),
    "completing": ("here",),
}

LEGAL: Final[frozenset[tuple[Authority, Phase | None]]] = frozenset(
    {
        ("here", None),
        ("here", "preparing"),
        ("here", "copying"),
        ("here", "following"),
        ("here", "cutting"),
        ("pending", "following"),
        ("pending", "cutting"),
        ("there", "cutting"),
        ("there", "switched"),
        ("there", "returning"),
        ("there", "returned"),
        ("here", "returned"),
        ("here", "aborting"),
        # Of a cut-over that was called off, and whose mover flipped late.
        ("pending", "aborting"),
        ("there", "completing"),
        ("there", None),
    }
)
"""What SQLite's authority and PostgreSQL's phase can be together. From each of them the next step is known."""

DECIDED: Final = ("switched", "returning", "returned")
"""PostgreSQL has had the authority, and the file has not taken it back for all that it knows."""

UNDECIDED: Final = ("copying", "following", "cutting")
"""PostgreSQL has copies, and has not had the authority since."""

_WITHOUT_TRIGGERS: Final = (None, "preparing", "aborting", "completing")


@dataclass(frozen=True, slots=True)
class Look:
    """Both stores, one after the other. The next step is safe although they may change in between."""

    sqlite: SqliteState
    postgresql: PostgresqlState

    @property
    def is_broken(self) -> bool:
        """Whether SQLite's log is not the one that PostgreSQL has followed so far."""
        lite, post = self.sqlite, self.postgresql
        return not lite.whole or lite.capture != post.capture or lite.head < post.cursor

    @property
    def lag(self) -> int:
        """How many changes of the store that serves the other one does not have yet, at most."""
        if self.postgresql.phase in ("switched", "returning"):
            return self.postgresql.noted
        return max(0, self.sqlite.head - self.postgresql.cursor) if self.sqlite.authority == "here" else 0

    @property
    def is_old(self) -> bool:
        """Whether the file knows less than the one that gave the authority up to PostgreSQL: that one counted a flip
        that PostgreSQL has settled since.
        """
        lite, post = self.sqlite, self.postgresql
        return post.phase in DECIDED and lite.move == post.move and lite.flips != post.settled

    def refuse_strange(self) -> None:
        """Raise `MoveRefused` for what no step of a move leads to."""
        lite, post = self.sqlite, self.postgresql
        pair = f"SQLite says {lite.authority!r}, PostgreSQL {post.phase or 'no move'!r} and {post.authority!r}"
        if (lite.authority, post.phase) not in LEGAL or post.authority not in _AUTHORITY[post.phase]:
            raise MoveRefused(
                f"the two stores do not belong together: {pair}. One of them was restored from a backup, or is the "
                "wrong one; put the right ones in place"
            )
        if self.is_old:
            raise MoveRefused(
                "the SQLite file is older than the move: PostgreSQL has taken over from it since. It was restored from "
                "a backup; put the right one in place, or end the move without it: holdfast move complete "
                "--accept-loss-of-file"
            )
        if post.store not in (None, lite.store):
            raise MoveRefused(
                f"PostgreSQL is in a move from another SQLite file, of store {post.store}; this file is store "
                f"{lite.store}. Give the file it belongs to, or another database"
            )
        if lite.move is not None and lite.move != post.move:
            raise MoveRefused(
                f"the SQLite file is in move {lite.move}, of which PostgreSQL knows nothing; give the database that "
                "the move was started with. If that is lost: holdfast move abort --accept-loss-of-database"
            )
        if lite.move is None and post.phase not in _WITHOUT_TRIGGERS:
            raise MoveRefused(
                "the SQLite file has lost what the move put into it: it was restored from a backup, or has ended the "
                "move without this database"
                + ("; holdfast move abort ends it here too" if post.phase in UNDECIDED else "")
            )
