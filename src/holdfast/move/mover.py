"""Moves a native store from SQLite to PostgreSQL, and back: looks at both, takes the next step, looks again.

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
from typing import Final, Self, TypeVar
from uuid import uuid4

from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import LeaseHeld, Look, MoveRefused, Phase, Reached
from holdfast.move.steps import Differing, Steps
from holdfast.move.threads import in_thread
from holdfast.move.verifying import Comparison, suspects
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import Authority, StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.failures import WORTH_REPEATING, Kind, kind_of, pause, to_raise

Answer = TypeVar("Answer")

BUDGET: Final = timedelta(seconds=2)
"""How long clients' writes wait for a cut-over's decision at most."""
_ROWS: Final = 1000
_LEASE: Final = timedelta(seconds=3)
_PATIENCE_SECONDS: Final = 10.0


def _nowhere(step: str) -> None:
    """Stop nowhere."""


class Mover:
    """One process's part in a move. Used by one task; `async with` opens and closes it."""

    def __init__(
        self,
        sqlite: str | os.PathLike[str],
        postgresql: str,
        options: StoreOptions | None = None,
        *,
        reached: Reached = _nowhere,
        lease: timedelta = _LEASE,
        patience: float = _PATIENCE_SECONDS,
        rows: int = _ROWS,
    ) -> None:
        """Prepare it; touches nothing yet.

        Args:
            sqlite: the file, which has to exist.
            postgresql: the database, which has to have Holdfast's tables.
            options: the schema, and whether a pooler stands in front of it.
            reached: told of every step before and after its commit, for tests that stop there.
            lease: how long nobody else moves these stores after a step of this one, by PostgreSQL's clock.
            patience: seconds for which failures that may pass are borne before they are raised.
            rows: how many rows are read and written at once.
        """
        left, entered = parse_address(sqlite), parse_address(postgresql)
        if not isinstance(left, SqliteAddress) or not isinstance(entered, PostgresqlAddress):
            raise MoveRefused("a move goes from a SQLite file to PostgreSQL; give the two in this order")
        self._addresses = (left, entered)
        self._options = options or StoreOptions()
        self._sqlite = SqliteSide(left.path, reached)
        self._postgresql = PostgresqlSide(entered, self._options, reached, lease)
        self._steps = Steps(self._sqlite, self._postgresql, rows)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._token: int | None = None
        self._patience = patience
        self._rows = rows

    async def __aenter__(self) -> Self:
        """Open both stores. Raises `StoreRefused` when one of them is not fit to be used."""
        for address in self._addresses:
            await schema.require(address, self._options)
        await in_thread(self._sqlite.open)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of both. What is under way is continued by the next mover."""
        if self._token is not None:
            # The move may be over, and its row gone; and a lease that is not given back runs out.
            with suppress(Exception):
                await self._postgresql.release_lease(self._token)
        await self._postgresql.close()
        await in_thread(self._sqlite.close)

    async def look(self) -> Look:
        """Where the move stands. Raises `MoveRefused` when the two stores do not belong together."""
        # SQLite last: what PostgreSQL said before may be old then, and its own transaction will find out.
        postgresql = await self._postgresql.look()
        look = Look(await in_thread(self._sqlite.look), postgresql)
        look.refuse_strange()
        return look

    async def start(self) -> None:
        """Begin a move, or continue one: copy all rows, then follow until nothing is left to apply.

        Raises `MoveRefused` when PostgreSQL has sessions, or SQLite has given its authority away already.
        """
        look = await self.look()
        if look.postgresql.phase is None:
            if look.sqlite.authority != "here":
                raise MoveRefused("the SQLite file's sessions were moved already; PostgreSQL holds them")
            move, store = uuid4(), look.sqlite.store
            # A backup of the file belongs here, before anything is changed.
            await self._patiently(lambda: self._postgresql.prepare(move, store))
        await self.run()

    async def verify(self) -> Comparison:
        """Compare all rows of both stores, while writes go on. Before a cut-over, and before a roll-back.

        Raises `MoveRefused` when no move is far enough, or writes come faster than they are applied.
        """
        await self.run()
        look = await self.look()
        where = (look.sqlite.authority, look.postgresql.phase)
        if where not in (("here", "following"), ("there", "switched")):
            raise MoveRefused(f"there is nothing to compare: the move is {look.postgresql.phase or 'not under way'}")
        token, since = await self._leased(), look.sqlite.head

        async def renew() -> None:
            async with self._postgresql.step("renew", token, "following", "switched"):
                pass

        rows, suspected = await suspects(self._sqlite, self._postgresql, self._rows, renew)
        comparison = Comparison(rows, await self._settled(suspected, token))
        if comparison.clean and where[0] == "here":
            async with self._postgresql.step("verify", token, "following") as step:
                await step.verified(since)
            await in_thread(self._sqlite.prune, since, token)
        return comparison

    async def _settled(self, suspected: Differing, token: int) -> Differing:
        """Of the rows that seemed to differ, those that differ once all changes are applied."""
        time = asyncio.get_running_loop().time
        limit = time() + self._patience
        while True:
            look = await self.look()
            match look.postgresql.phase:
                case "following":
                    complete, differing = await self._steps.apply(look, token, suspected)
                case "switched":
                    complete, differing = await self._steps.reverse(token, suspected)
                case _:
                    raise LeaseHeld("another process took the move over")
            if complete:
                return differing
            if time() > limit:
                raise MoveRefused("writes come faster than they are applied; try again when there are fewer")

    async def cut_over(self, budget: timedelta = BUDGET) -> None:
        """Compare all rows, then let PostgreSQL take the authority over. Nothing to do when it has it already.

        Clients' writes wait for milliseconds. When there is no decision within the budget, or the stores differ,
        SQLite serves on and `MoveRefused` says why. Interrupted, it is brought to one end or the other by whoever
        calls `run` or this next.
        """
        look = await self.look()
        if look.sqlite.authority == "here" and look.postgresql.phase in ("preparing", "copying", "following"):
            if not (await self.verify()).clean:
                raise MoveRefused("the two stores differ, see what `verify` finds; SQLite serves on")
            # A backup of the file belongs here, and the question whether all processes can follow.
            await self.run()
            token = await self._leased()
            async with self._postgresql.step("cut", token, "following") as step:
                await step.cut(budget)
        elif look.postgresql.phase is None:
            raise MoveRefused("no move is under way; start one")
        try:
            await self.run(budget.total_seconds())
        except Exception as error:
            if not isinstance(error, LeaseHeld):
                # Whatever went wrong, PostgreSQL out of reach perhaps: writes must not wait for it.
                with suppress(Exception):
                    await in_thread(self._sqlite.withdraw, None)
            raise
        if (await self.look()).postgresql.phase != "switched":
            raise MoveRefused(f"there was no decision within {budget.total_seconds():g} s; SQLite serves on, try again")

    async def withdraw(self) -> None:
        """Call a cut-over off. Raises `MoveRefused` when SQLite has decided already: then roll back instead."""
        look = await self.look()
        if look.sqlite.authority == "there":
            raise MoveRefused("SQLite has given its authority up already; roll back instead")
        token = await self._leased()
        if look.sqlite.authority == "pending":
            await self._steps.withdraw(token)
        if look.postgresql.phase == "cutting":
            await self._steps.resume(token)

    async def roll_back(self) -> None:
        """Bring the authority back to SQLite, with all that was written since. Nothing to do when it has it already.

        It lands where one can cut over again. Compares all rows first, and raises `MoveRefused` when some differ.
        """
        await self.run()
        look = await self.look()
        match look.sqlite.authority, look.postgresql.phase:
            case "here", "following":
                return
            case "there", "switched":
                if not (await self.verify()).clean:
                    raise MoveRefused("the two stores differ, see what `verify` finds; PostgreSQL serves on")
                # A backup of PostgreSQL belongs here.
                await self.run()
                token = await self._leased()
                await self._patiently(lambda: self._fence(token))
                await self.run()
            case _:
                raise MoveRefused(f"there is nothing to roll back: the move is {look.postgresql.phase or 'over'}")

    async def _fence(self, token: int) -> None:
        async with self._postgresql.step("fence", token, "switched") as step:
            await step.fence()

    async def complete(self) -> None:
        """End a move that has switched: there is no way back after it. The file stays, and takes no more writes."""
        await self._end("there", "switched", "completing")

    async def abort(self) -> None:
        """End a move that has not switched: SQLite serves on as before; PostgreSQL is emptied, and stays closed."""
        await self._end("here", "following", "aborting")

    async def _end(self, authority: Authority, phase: Phase, ending: Phase) -> None:
        look = await self.look()
        if look.postgresql.phase not in (None, ending):
            token = await self._leased()
            before: tuple[Phase, ...] = (phase,) if ending == "completing" else ("preparing", "copying", phase)
            if look.sqlite.authority != authority or look.postgresql.phase not in before:
                raise MoveRefused(f"the move is {look.postgresql.phase}: bring that to its end first")
            async with self._postgresql.step(ending, token, *before) as step:
                await step.phase(ending)
        await self.run()

    async def run(self, patience: float | None = None) -> None:
        """Take steps until none is left to take.

        Bears failures that may pass for so many seconds after a step, by default for as long as its own patience
        lasts; raises `StoreUnavailable` then.
        """
        while await self._patiently(self.advance, patience) is not None:
            pass

    async def advance(self) -> str | None:
        """Take the next step; its name, or `None` when there is none to take at the moment."""
        look = await self.look()
        if look.postgresql.phase is None:
            self._token = None
            return None
        if self._token is None:
            await self._leased()
            look = await self.look()
        return await self._steps.next(look, await self._leased())

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
                    raise to_raise(error, "a store of the move") from error
                await asyncio.sleep(pause(failures))

    async def _leased(self) -> int:
        """The token of this mover's lease, which it takes if it has none."""
        if self._token is None:
            self._token = await self._postgresql.take_lease(self._owner)
        return self._token
