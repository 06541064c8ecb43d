"""What the tests of the move share: a file with sessions, a database for them, and the truth about both."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from holdfast import SessionManager, StoreOptions
from holdfast.move import postgresql_objects as objects
from holdfast.move.mover import Mover
from holdfast.move.rows import SHAPES
from holdfast.move.throttle import Throttle
from holdfast.sessions.tokens import digest_of_new

LEASE = timedelta(seconds=0.3)


@dataclass(frozen=True)
class Place:
    """The two stores of a test."""

    path: Path
    address: str

    def mover(self, kind: type[Mover] = Mover, **changes: Any) -> Mover:
        """A mover with a short lease, that reads few rows at once and stands back for nobody."""
        plain = {"lease": LEASE, "rows": 20, "throttle": Throttle(slow=60.0)}
        return kind(str(self.path), self.address, **{**plain, **changes})

    @asynccontextmanager
    async def manager(self, which: str = "sqlite") -> AsyncIterator[SessionManager]:
        """A manager of one of the two, which opens wherever the authority is."""
        address = str(self.path) if which == "sqlite" else self.address
        options = StoreOptions(follows=True)
        async with SessionManager(address, sweep_interval=None, options=options) as manager:
            yield manager

    async def fill(self, sessions: int) -> list[str]:
        """So many sessions in the file, of all sorts; their tokens."""
        async with self.manager() as manager:
            tokens = []
            for number in range(sessions):
                new = await manager.create_session(f"u{number % 7}" if number % 5 else None, {"n": number, "é": [1.5]})
                tokens.append(new.token)
                if number % 3 == 0:
                    await manager.validate_session(new.token)
                if number % 10 == 1:
                    rotated = await manager.rotate_session(new.token)
                    assert rotated is not None
                    tokens[-1] = rotated.token
                if number % 10 == 2:
                    await manager.delete_session(new.token)
                if number % 10 == 3:
                    await manager.create_ticket(new.token)
                    self.in_sqlite(
                        "INSERT INTO holdfast_imported VALUES (?, ?, ?, 'a repair', ?, '{\"a\": 1}')",
                        digest_of_new(new.token),
                        UUID(new.id).hex if number % 20 == 3 else None,
                        f"u{number % 7}",
                        number % 20 == 3,
                    )
            return tokens

    def in_sqlite(self, statement: str, *values: Any) -> list[Any]:
        """Do something in the file, as a stranger would."""
        with closing(sqlite3.connect(self.path, timeout=5)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    async def in_postgresql(self, statement: str, *values: Any) -> list[Any]:
        """Do something in the database, as a stranger would."""
        connection = await asyncpg.connect(self.address)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    async def lapse(self) -> None:
        """Let the lease of a mover that was stopped be over: its end is moved, and nobody waits for it.

        What a mover at work has locked stays its own.
        """
        with suppress(asyncpg.UndefinedTableError):
            await self.in_postgresql(
                "UPDATE holdfast_move SET leased_until = clock_timestamp() "
                "WHERE id IN (SELECT id FROM holdfast_move FOR UPDATE SKIP LOCKED)"
            )

    async def both(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """All rows of the two stores, in SQLite's form."""
        ours, theirs = {}, {}
        for table, shape in SHAPES.items():
            ours[table] = self.in_sqlite(f"SELECT {shape.columns()} FROM {table} ORDER BY 1")
            found = await self.in_postgresql(f"SELECT {shape.read_columns()} FROM {table} ORDER BY 1")
            theirs[table] = [shape.to_sqlite(row) for row in found]
        return ours, theirs

    async def forget(self) -> None:
        """Leave the database as if no move had ever been, and remove the file: for the next one of many."""
        connection = await asyncpg.connect(self.address)
        try:
            for table in ("sessions", "holdfast_tickets"):
                for trigger in ("holdfast_fence", "holdfast_fence_truncate"):
                    await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
            if await connection.fetchval("SELECT to_regclass('holdfast_move') IS NOT NULL"):
                await connection.execute('SET search_path = "$user", public')
                await objects.remove(connection, "public", serves=True)
            await connection.execute("TRUNCATE sessions, holdfast_tickets, holdfast_imported")
            await connection.execute("UPDATE holdfast_control SET authority = 'here', epoch = 1")
        finally:
            await connection.close()
        for each in self.path.parent.glob(f"{self.path.name}*"):
            each.unlink()
