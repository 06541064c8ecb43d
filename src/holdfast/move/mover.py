"""Moves a native store from SQLite to PostgreSQL: looks at both, takes the next step, looks again.

Every step is one transaction in one store, and safe to take late, twice, or by a mover that was taken over from: the
transaction itself finds out. So whoever was stopped anywhere is continued by anybody who begins anew.
"""

import asyncio
import os
import secrets
import socket
from datetime import timedelta
from typing import Final, Self
from uuid import uuid4

from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.rows import SHAPES, Key
from holdfast.move.sqlite_side import Changes, SqliteSide
from holdfast.move.state import LeaseHeld, Look, MoveRefused, Reached
from holdfast.move.threads import in_thread
from holdfast.move.verifying import Comparison, suspects
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.failures import WORTH_REPEATING, Kind, kind_of, pause, to_raise

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
            # A backup of the file belongs here, before anything is changed.
            await self._postgresql.prepare(uuid4(), look.sqlite.store)
        await self.run()

    async def run(self) -> None:
        """Take steps until none is left to take.

        Bears failures that may pass for as long as its patience lasts; raises `StoreUnavailable` then.
        """
        time = asyncio.get_running_loop().time
        limit, failures = time() + self._patience, 0
        while True:
            try:
                if await self.advance() is None:
                    return
                limit, failures = time() + self._patience, 0
            except HoldfastError:
                raise
            except Exception as error:
                if kind_of(error) is Kind.BUG:
                    raise
                failures += 1
                if kind_of(error) not in WORTH_REPEATING or time() > limit:
                    raise to_raise(error, "a store of the move") from error
                await asyncio.sleep(pause(failures))

    async def advance(self) -> str | None:
        """Take the next step; its name, or `None` when there is none to take at the moment."""
        look = await self.look()
        if look.postgresql.phase is None:
            return None
        if self._token is None:
            await self._leased()
            look = await self.look()
        try:
            return await self._next(look, await self._leased())
        except LeaseHeld:
            self._token = None
            raise

    async def _leased(self) -> int:
        """The token of this mover's lease, which it takes if it has none."""
        if self._token is None:
            self._token = await self._postgresql.take_lease(self._owner)
        return self._token

    async def _next(self, look: Look, token: int) -> str | None:
        sqlite, postgresql = look.sqlite, look.postgresql
        match sqlite.authority, postgresql.phase:
            case "here", "preparing":
                return await self._begin(look, token)
            case "here", ("copying" | "following") if not sqlite.whole or sqlite.capture != postgresql.capture:
                return await self._begin(look, token)
            case "here", "copying":
                return await self._copy(look, token)
            case "here", "following" if postgresql.cursor != sqlite.head:
                await self._apply(look, token, {})
                return "apply"
        return None

    async def _begin(self, look: Look, token: int) -> str:
        """Put the triggers in, and tell PostgreSQL from which stretch of the log it gets its changes.

        Also after they were lost: then nobody knows what was changed meanwhile, and all is copied again.
        """
        if look.postgresql.move is None:
            raise MoveRefused("PostgreSQL's part of the move is gone")
        if not look.sqlite.whole or look.sqlite.capture is None:
            await in_thread(self._sqlite.install, look.postgresql.move, token)
            return "install"
        async with self._postgresql.step("begin", token, "preparing", "copying", "following") as step:
            await step.begin_copying(look.sqlite.capture)
        return "begin"

    async def _copy(self, look: Look, token: int) -> str:
        shapes = list(SHAPES.values())
        shape = SHAPES[look.postgresql.copying]
        after = None if look.postgresql.copied is None else shape.of_hex(look.postgresql.copied)
        rows = await in_thread(self._sqlite.chunk, shape, after, self._rows)
        to = rows[-1][0] if len(rows) == self._rows else None
        following = shapes[shapes.index(shape) + 1 :]
        async with self._postgresql.step("copy", token, "copying") as step:
            await step.replace(shape, after, to, rows)
            if to is not None:
                await step.copied(shape, to, None)
            elif following:
                await step.copied(shape, None, following[0])
            else:
                await step.analyze()
                await step.phase("following")
        return "copy"

    async def _apply(
        self, look: Look, token: int, others: dict[str, list[Key]]
    ) -> tuple[Changes, dict[str, list[Key]]]:
        """Apply a stretch of the log. With other keys, also which of their rows differ from that same instant's."""
        changes = await in_thread(self._sqlite.changes, look.postgresql.cursor, self._rows, others)
        async with self._postgresql.step("apply", token, "following") as step:
            await step.write(changes.images)
            await step.advanced(changes.cursor)
            found = await step.images(others)
        return changes, changes.others.differ(found)

    async def verify(self) -> Comparison:
        """Compare all rows of both stores, while writes go on; of a move that follows.

        Raises `MoveRefused` when the move does not follow yet, or writes come faster than they are applied.
        """
        await self.run()
        look = await self.look()
        if (look.sqlite.authority, look.postgresql.phase) != ("here", "following"):
            raise MoveRefused(f"there is nothing to compare: the move is {look.postgresql.phase or 'not started'}")
        token = await self._leased()
        since = look.sqlite.head

        async def renew() -> None:
            async with self._postgresql.step("renew", token, "following"):
                pass

        rows, suspected = await suspects(self._sqlite, self._postgresql, self._rows, renew)
        differing = await self._settled(suspected, token)
        comparison = Comparison(rows, differing)
        if comparison.clean:
            async with self._postgresql.step("verify", token, "following") as step:
                await step.verified(since)
            await in_thread(self._sqlite.prune, since, token)
        return comparison

    async def _settled(self, suspected: dict[str, list[Key]], token: int) -> dict[str, list[Key]]:
        """Of the rows that seemed to differ, those that differ once all changes are applied."""
        time = asyncio.get_running_loop().time
        limit = time() + self._patience
        while True:
            changes, differing = await self._apply(await self.look(), token, suspected)
            if changes.complete:
                return differing
            if time() > limit:
                raise MoveRefused("SQLite is written faster than PostgreSQL is; try again when there is less to do")
