"""The authority of two stores, switched by hand in the order in which a move does it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import asyncpg

from holdfast.sql import schema


class Pair:
    """A SQLite file and a PostgreSQL database, both with our tables and without a session."""

    def __init__(self, path: Path, address: str) -> None:
        self.path = path
        self.address = address

    @classmethod
    async def made(cls, path: Path, address: str) -> "Pair":
        """A file at a path, and a database that has the tables already."""
        await schema.upgrade(path)
        return cls(path, address)

    async def give(self, name: str) -> None:
        """Let one of the two hold the authority, as if a move had just ended there."""
        if name == "sqlite":
            await self.postgresql("pending")
            await self.postgresql("there")
            self.sqlite("here")
        else:
            self.sqlite("pending")
            self.sqlite("there")
            await self.postgresql("here")

    def sqlite(self, authority: str) -> None:
        """What the file says of itself."""
        with closing(sqlite3.connect(self.path, timeout=5)) as connection, connection:
            connection.execute("UPDATE holdfast_control SET authority = ?, epoch = epoch + 1", (authority,))

    def end(self, id: str) -> None:
        """End a session in the file, as a roll-back does for one that ended in the database."""
        with closing(sqlite3.connect(self.path, timeout=5)) as connection, connection:
            connection.execute(
                "UPDATE sessions SET ended_at = created_at, end_reason = 'logout' WHERE id = ?", (UUID(id).hex,)
            )

    async def postgresql(self, authority: str) -> None:
        """What the database says of itself, and its fence in the same transaction."""
        connection = await asyncpg.connect(self.address)
        try:
            async with connection.transaction():
                await connection.execute("UPDATE holdfast_control SET authority = $1, epoch = epoch + 1", authority)
                how = "DISABLE" if authority == "here" else "ENABLE ALWAYS"
                for table in ("sessions", "holdfast_tickets"):
                    for trigger in ("holdfast_fence", "holdfast_fence_truncate"):
                        await connection.execute(f"ALTER TABLE {table} {how} TRIGGER {trigger}")
        finally:
            await connection.close()
