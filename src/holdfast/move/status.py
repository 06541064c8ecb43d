"""How a move stands, for people and for what watches servers: one read-only look at both stores.

It takes no lease, makes nothing and waits for nobody. What it says may be old when it is read: whoever acts on it
looks again within the step.
"""

import asyncio
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self, TypeVar, get_args
from uuid import UUID

from holdfast.move.addresses import addresses
from holdfast.move.asking_sql import MOST_COUNTED, PostgresqlAsked, PostgresqlSaid, SqliteSaid, ask_sqlite
from holdfast.move.failures import of_two
from holdfast.move.state import Look, MoveRefused, Phase, PostgresqlState, SqliteState
from holdfast.sessions.errors import HoldfastError, StoreUnavailable
from holdfast.sessions.store import FIRST_EPOCH, Authority, StoreOptions
from holdfast.sql.failures import Kind, kind_of, to_raise

Answer = TypeVar("Answer")

StoreName = Literal["sqlite", "postgresql"]
"""One of the two stores of a move."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
"""All phases, in the order in which a move goes through them."""

_PATIENCE_SECONDS: Final = 4.0

log = logging.getLogger("holdfast.move")


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStatus:
    """Where a move stands."""

    move: UUID | None
    """Which move is under way; `None` without one."""
    phase: Phase | None
    """How far PostgreSQL knows it to have come; `None` without a move, and while PostgreSQL is away."""
    authority: StoreName | None
    """Which store has the authority. `None` when both accept writes, as two stores do that no move ever joined."""
    waiting: bool
    """Whether writes wait for a decision."""
    epoch: int
    """Grows with every change of authority in either store; 0 before the first."""
    copied: int | None
    """How many rows the store without the authority has. `None` when they were not counted, or cannot be."""
    rows: int | None
    """How many rows the store with the authority has: of sessions, tickets and the notes of an import."""
    lag: int
    """Changes that one store has and the other not yet; `MOST_COUNTED` means so many or more."""
    verified_at: datetime | None
    """When all rows were last compared and none differed (aware, UTC); `None` when nothing counts as verified."""
    quarantined: int | None
    """Rows of an application's own table that became no session. `None` when they were not counted."""
    quarantined_live: int | None
    """How many of those somebody may have been logged in by."""
    away: tuple[StoreName, ...]
    """Which of the two did not answer."""

    @property
    def lag_is_bound(self) -> bool:
        """Whether there may be more changes than `lag` says."""
        return self.lag >= MOST_COUNTED


class StatusReader:
    """Looks at the two stores of a move. `async with` closes it; it connects when it is first asked."""

    def __init__(self, sqlite: str | os.PathLike[str], postgresql: str, options: StoreOptions | None = None) -> None:
        """Prepare it. Raises `MoveRefused` unless the addresses are a SQLite file and PostgreSQL, in this order."""
        left, entered = addresses(sqlite, postgresql)
        self._path = left.path.absolute()
        self._postgresql = PostgresqlAsked(entered, options or StoreOptions())
        self.strange: str | None = None
        """Why the two do not belong together, as the last look saw them; `None` when they do, or one is away."""

    async def __aenter__(self) -> Self:
        """Nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, see `close`."""
        await self.close()

    async def close(self) -> None:
        """Let go of the connection. Safe to repeat."""
        await self._postgresql.close()

    async def read(self, *, count: bool = True) -> MoveStatus:
        """How the move stands now. Changes nothing.

        Args:
            count: whether rows and quarantine are counted too, which reads an index of each store.

        Raises `StoreUnavailable` when neither store answers, and `StoreRefused` for one that must not be used.
        """
        sqlite, postgresql = await self._both(count)
        if (strange := _strange(sqlite, postgresql)) is not None:
            # A mover may have gone on between the two looks.
            sqlite, postgresql = await self._both(count)
            strange = _strange(sqlite, postgresql)
        self.strange = strange
        return _status(sqlite, postgresql)

    async def _both(self, count: bool) -> tuple[SqliteSaid | None, PostgresqlSaid | None]:
        postgresql = await self._asked("PostgreSQL", self._postgresql.ask(count))
        # SQLite last, as a mover looks: what PostgreSQL said may only be behind it.
        sqlite = await self._asked("the SQLite file", asyncio.to_thread(ask_sqlite, self._path, count))
        if sqlite is None and postgresql is None:
            raise StoreUnavailable("neither store of the move answers")
        return sqlite, postgresql

    async def _asked(self, name: str, asking: Coroutine[Any, Any, Answer]) -> Answer | None:
        """What a store says; `None` when it does not answer, or not soon."""
        task = asyncio.create_task(asking, name="holdfast-status")
        try:
            await asyncio.wait((task,), timeout=_PATIENCE_SECONDS)
        finally:
            if not task.done():
                # A server that is silent would be waited for until its statement's time is up.
                task.cancel()
                await self._postgresql.close()
                await asyncio.wait((task,))
                if not task.cancelled():
                    # Of one that failed over that nobody wants to hear any more.
                    task.exception()
        if task.cancelled():
            return None
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, HoldfastError) or not isinstance(error, Exception):
            raise error
        if kind_of(error) in (Kind.BUG, Kind.REFUSED, Kind.DEFECT):
            raise of_two(to_raise(error, name), name) from error
        log.debug("%s could not be asked how the move stands: %s", name, type(error).__name__)
        return None


def _status(sqlite: SqliteSaid | None, postgresql: PostgresqlSaid | None) -> MoveStatus:
    move = None if postgresql is None or postgresql.move is None else postgresql.move
    phase: Phase | None = None if move is None else move["phase"]
    authority, waiting = _authority(
        None if sqlite is None else sqlite.authority, None if postgresql is None else postgresql.authority, phase
    )
    epochs = [each.epoch - FIRST_EPOCH for each in (sqlite, postgresql) if each is not None]
    lag = 0
    if move is not None and postgresql is not None:
        behind = 0 if sqlite is None or sqlite.move is None else max(0, sqlite.head - move["cursor"])
        lag = postgresql.changed if phase in ("switched", "returning") else min(behind, MOST_COUNTED)
    here, there = (postgresql, sqlite) if authority == "postgresql" else (sqlite, postgresql)
    quarantined = None if here is None else here.quarantined
    return MoveStatus(
        move=move["move"] if move is not None else sqlite.move if sqlite is not None else None,
        phase=phase,
        authority=authority,
        waiting=waiting,
        epoch=sum(epochs),
        copied=None if there is None else there.rows,
        rows=None if here is None else here.rows,
        lag=lag,
        verified_at=None if move is None else move.get("verified_at"),
        quarantined=None if quarantined is None else quarantined[0],
        quarantined_live=None if quarantined is None else quarantined[1],
        away=("sqlite",) if sqlite is None else ("postgresql",) if postgresql is None else (),
    )


def _strange(sqlite: SqliteSaid | None, postgresql: PostgresqlSaid | None) -> str | None:
    """What a mover would say of the two."""
    if sqlite is None or postgresql is None:
        return None
    move = postgresql.move or {"phase": None, "move": None, "store": None, "settled": 0}
    store = sqlite.store or UUID(int=0)
    look = Look(
        SqliteState(sqlite.authority, store, sqlite.move, None, 0, sqlite.flips, sqlite.head, whole=True),
        PostgresqlState(postgresql.authority, move["phase"], move["move"], move["store"], settled=move["settled"]),
    )
    try:
        look.refuse_strange()
    except MoveRefused as refusal:
        return str(refusal)
    return None


def _authority(
    sqlite: Authority | None, postgresql: Authority | None, phase: Phase | None
) -> tuple[StoreName | None, bool]:
    """Which store has it, and whether writes wait. `None` is a store that does not answer."""
    match sqlite, postgresql:
        case "here", "here":
            return None, False
        case (("here" | "pending"), _):
            return "sqlite", sqlite == "pending"
        case _, ("here" | "pending"):
            return "postgresql", postgresql == "pending"
        case "there", "there" if phase is not None:
            # Decided, and not yet entered: "cutting" goes forward, "returned" back.
            return ("postgresql" if phase == "cutting" else "sqlite"), True
        case "there", _:
            return ("postgresql" if postgresql is None else None), False
        case _, "there":
            return ("sqlite" if sqlite is None else None), False
        case _:
            return None, False
