"""Looks at both stores, takes the next step, looks again: what every goal of a mover is made of.

There is no state in it but its lease. Whoever was stopped anywhere is continued by anybody who asks for the same
again.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, Self, TypeVar

from holdfast.backups.take import take
from holdfast.legacy.form import has_legacy_form
from holdfast.move.addresses import addresses
from holdfast.move.conditions import Wishes
from holdfast.move.failures import in_our_words, of_two
from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.progress import Doing, Progress, Tell, tell_nobody
from holdfast.move.sides import sqlite_side
from holdfast.move.state import LeaseHeld, Look, MoveRefused, Phase, Reached, WritesTooFast
from holdfast.move.steps import Steps
from holdfast.move.threads import in_thread
from holdfast.move.throttle import Throttle
from holdfast.sessions.errors import HoldfastError, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.failures import WORTH_REPEATING, Kind, NotDone, kind_of, pause

Answer = TypeVar("Answer")

_ROWS: Final = 1000
_LEASE: Final = timedelta(seconds=3)
_PATIENCE_SECONDS: Final = 10.0
# How long what is left to apply may grow no less.
_NO_LESS_SECONDS: Final = 10.0
_DOING: Final[dict[Phase | None, Doing]] = {
    None: "looking",
    "preparing": "copying",
    "copying": "copying",
    "following": "following",
    "cutting": "cutting over",
    "switched": "taking back",
    "returning": "going back",
    "returned": "going back",
    "aborting": "ending",
    "completing": "ending",
}
_WITHOUT_HURRY: Final = ("copy", "apply", "reverse")


def nowhere(step: str) -> None:
    """Stop nowhere."""


class Running:
    """One process's part in a move. Used by one task; `async with` opens and closes it."""

    def __init__(
        self,
        sqlite: str | os.PathLike[str],
        postgresql: str,
        options: StoreOptions | None = None,
        *,
        backups: Path | None = None,
        tell: Tell = tell_nobody,
        throttle: Throttle | None = None,
        wishes: Wishes | None = None,
        reached: Reached = nowhere,
        lease: timedelta = _LEASE,
        wait: float = 0.0,
        patience: float = _PATIENCE_SECONDS,
        rows: int = _ROWS,
    ) -> None:
        """Prepare it; touches nothing yet.

        Args:
            sqlite: the file, which has to exist.
            postgresql: the database, which has to have Holdfast's tables.
            options: the schema, and whether a pooler stands in front of it.
            backups: the directory for backups of a store before it is moved from; `None` means none are taken.
            tell: told how far it is, after each step.
            throttle: what slows it down for the sake of the store that serves.
            wishes: what the operator has said of a file in the legacy form.
            reached: told of every step before and after its commit, for tests that stop there.
            lease: how long nobody else moves these stores after a step of this one, by PostgreSQL's clock.
            wait: seconds for which another mover's lease is waited for before `LeaseHeld` is raised.
            patience: seconds for which failures that may pass are borne before they are raised.
            rows: how many rows are read and written at once.
        """
        left, entered = addresses(sqlite, postgresql)
        self._addresses = (left, entered)
        self._options = options or StoreOptions()
        self._wishes = wishes or Wishes()
        self._sqlite = sqlite_side(left.path, self._options, reached, self._wishes.on_bad_expiry)
        self._postgresql = PostgresqlSide(entered, self._options, reached, lease)
        self._steps = Steps(self._sqlite, self._postgresql, rows)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._token: int | None = None
        self._backups = backups
        self._tell = tell
        self._throttle = throttle or Throttle()
        self._wait = wait
        self._patience = patience
        self._rows = rows
        self._began = 0.0
        self._closed: float | None = None
        self.progress = Progress()
        """How far it is."""
        self.taken: list[Path] = []
        """The backups that it took."""
        self.times: dict[str, float] = {}
        """Seconds that each step took, since it last began to go from one store to the other."""
        self.writes_waited: float | None = None
        """Seconds for which no store accepted writes when it last went from one to the other; `None` before that."""

    async def __aenter__(self) -> Self:
        """Open both stores. Raises `StoreRefused` when one of them is not fit to be used."""
        left, entered = self._addresses
        if not has_legacy_form(left.path):
            await self._require("the SQLite file", left)
        await self._require("PostgreSQL", entered)
        await in_thread(self._sqlite.open)
        return self

    async def _require(self, name: str, address: SqliteAddress | PostgresqlAddress) -> None:
        try:
            await schema.require(address, self._options)
        except StoreRefused as error:
            of_two(error, name)
            # There are two stores, and the message may fit either.
            if str(error).startswith(("SQLite file ", "PostgreSQL ")):
                raise
            raise StoreRefused(f"{name}: {error}") from error

    async def __aexit__(self, *_: object) -> None:
        """Let go of both. What is under way is continued by the next mover."""
        await self.let_go()
        await self._postgresql.close()
        await in_thread(self._sqlite.close)

    async def let_go(self) -> None:
        """Let others move these stores now. Safe to repeat."""
        token, self._token = self._token, None
        if token is not None:
            # The move may be over, and its row gone; and a lease that is not given back runs out.
            with suppress(Exception):
                await self._postgresql.release_lease(token)

    def forget_lease(self) -> None:
        """Take a lease anew before the next step: somebody else has it by now."""
        self._token = None

    async def look(self) -> Look:
        """Where the move stands. Raises `MoveRefused` when the two stores do not belong together."""
        # SQLite last: what PostgreSQL said before may be old then, and its own transaction will find out.
        postgresql = await self._postgresql.look()
        while True:
            look = Look(await in_thread(self._sqlite.look), postgresql)
            try:
                look.refuse_strange()
            except MoveRefused:
                # Another mover may have gone on between the two looks.
                before, postgresql = postgresql, await self._postgresql.look()
                if before.is_where(postgresql):
                    raise
            else:
                return look

    async def run(self, patience: float | None = None) -> None:
        """Take steps until none is left to take.

        Bears failures that may pass for so many seconds after a step, by default for as long as its own patience
        lasts; raises `StoreUnavailable` then. Raises `WritesTooFast` when what is left to apply grows no less.
        """
        time, least, limit = asyncio.get_running_loop().time, inf, inf
        while (step := await self._patiently(self.advance, patience)) is not None:
            if step in _WITHOUT_HURRY:
                await self._patiently(self._give_way, patience)
            if step in ("apply", "reverse"):
                if self.progress.lag < least:
                    # As long as less is left than ever it comes to an end, slow as the machine may be.
                    least, limit = self.progress.lag, time() + _NO_LESS_SECONDS
                elif time() > limit:
                    raise WritesTooFast

    async def advance(self) -> str | None:
        """Take the next step; its name, or `None` when there is none to take at the moment."""
        look = await self.look()
        if look.postgresql.phase is None:
            self._token = None
            return None
        if self._token is None:
            await self._leased()
            look = await self.look()
        await self._before(look)
        time = asyncio.get_running_loop().time
        began = time()
        step = await self._steps.next(look, await self._leased())
        if step is not None:
            self.times[step] = self.times.get(step, 0.0) + time() - began
            if step == "flip":
                self._closed = began
            elif step in ("open", "withdraw", "enter", "stay"):
                self._opened()
            self._report(self.progress.since + self._steps.moved)
        return step

    # For the goals

    async def _before(self, look: Look) -> None:
        """Note what the next step is part of."""
        progress, phase = self.progress, look.postgresql.phase
        progress.lag = look.lag
        doing = _DOING[phase]
        if doing == progress.doing:
            return
        of, since = None, 0
        if doing == "copying" and phase == "copying":
            of = sum((await in_thread(self._sqlite.counts)).values())
            since = await self._steps.copied(look)
        elif doing == "copying":
            # Before the copy there is nothing to count yet.
            return
        self._begin(doing, of, since)

    def _begin(self, doing: Doing, of: int | None = None, since: int = 0) -> None:
        self._steps.moved, self._began = 0, monotonic()
        self.progress.begin(doing, of, since)
        self._tell(self.progress)

    def _report(self, rows: int) -> None:
        self.progress.rows = rows
        self.progress.seconds = monotonic() - self._began
        self._tell(self.progress)

    def _opened(self) -> None:
        if self._closed is not None:
            self.writes_waited, self._closed = asyncio.get_running_loop().time() - self._closed, None

    async def _give_way(self) -> None:
        """Stand back while the store that serves is slow."""
        if not self._throttle.due:
            return
        look = await self.look()
        if look.sqlite.authority == "here":
            await self._throttle.give_way(self._commit_in_sqlite)
        elif look.postgresql.phase == "switched":
            await self._throttle.give_way(self._renew)
        self.progress.commit, self.progress.held_back = self._throttle.commit, self._throttle.held_back

    async def _commit_in_sqlite(self) -> None:
        # Not done means that it waited for its turn as long as it may: that is slow, and nothing else.
        with suppress(NotDone):
            await in_thread(self._sqlite.pulse)

    async def _renew(self) -> None:
        async with self._postgresql.step("renew", await self._leased(), "copying", "following", "switched"):
            pass

    async def _back_up(self, address: SqliteAddress | PostgresqlAddress) -> None:
        """Take a backup of a store that is about to be left."""
        if self._backups is not None:
            self._begin("backing up")
            made = await take(address, self._options, self._backups, lambda _, rows: self._report(rows))
            self.taken.append(made.path)

    async def _patiently(self, attempt: Callable[[], Awaitable[Answer]], patience: float | None = None) -> Answer:
        time = asyncio.get_running_loop().time
        limit, failures = time() + (self._patience if patience is None else patience), 0
        while True:
            try:
                return await attempt()
            except LeaseHeld:
                self._token = None
                raise
            except HoldfastError:
                raise
            except Exception as error:
                failures += 1
                kind = kind_of(error)
                if kind is Kind.BUG:
                    raise
                if kind not in WORTH_REPEATING or time() > limit:
                    raise in_our_words(error) from error
                await asyncio.sleep(pause(failures))

    async def _leased(self) -> int:
        """The token of this mover's lease, which it takes if it has none."""
        time = asyncio.get_running_loop().time
        limit = time() + self._wait
        while self._token is None:
            try:
                self._token = await self._postgresql.take_lease(self._owner)
            except LeaseHeld:
                if time() >= limit:
                    raise
                await asyncio.sleep(min(0.1, self._wait))
        return self._token
