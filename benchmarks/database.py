"""The PostgreSQL of a run: one of our own that writes to the disk, or the one that the environment names."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.support.postgres import PostgresCluster

VARIABLE = "HOLDFAST_BENCH_DATABASE_URL"
# What the test server changes for the sake of tests, back at PostgreSQL's defaults; and room for every contender of a
# run to keep its connections, of which PostgreSQL allows a hundred.
DEFAULTS = {
    "shared_buffers": "128MB",
    "wal_log_hints": "off",
    "wal_keep_size": "0",
    "dynamic_shared_memory_type": "posix",
    "max_connections": "400",
}
_SHOWN = (
    *("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_level"),
    *("max_connections", "max_wal_size", "checkpoint_timeout", "autovacuum", "wal_sync_method"),
)


@dataclass(frozen=True)
class Database:
    """An address, a schema of this run's own in it, and the settings that matter."""

    address: str
    schema: str
    settings: dict[str, str]
    source: str
    data: Path | None = None
    """Where the server keeps its files, if it is our own."""
    others: list[str] = field(default_factory=list)
    """Further schemas of this run."""

    async def another(self, name: str) -> str:
        """One more schema, for rows of its own; empty, whatever was there, and gone at the end of the run."""
        schema = f"{self.schema}_{name}"
        connection = await asyncpg.connect(self.address)
        try:
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            await connection.execute(f"CREATE SCHEMA {schema}")
        finally:
            await connection.close()
        if schema not in self.others:
            self.others.append(schema)
        return schema

    async def drop(self, schema: str) -> None:
        """Give back the room of a schema before the run ends."""
        connection = await asyncpg.connect(self.address)
        try:
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        finally:
            await connection.close()


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """A database for one run; what the run put there is gone afterwards."""
    named = os.environ.get(VARIABLE)
    server = None if named else PostgresCluster.create(18, settings=DEFAULTS, durable=True)
    try:
        if server is not None:
            server.start()
        address = named or (server.address() if server is not None else "")
        schema = f"holdfast_bench_{secrets.token_hex(4)}"
        connection = await asyncpg.connect(address)
        try:
            settings = {name: await connection.fetchval(f"SHOW {name}") for name in _SHOWN}
            await connection.execute(f"CREATE SCHEMA {schema}")
            source = f"the server of {VARIABLE}" if named else "a server of the test wheel"
            place = Database(address, schema, settings, source, None if server is None else server.data)
            try:
                yield place
            finally:
                for each in (schema, *place.others):
                    await connection.execute(f"DROP SCHEMA IF EXISTS {each} CASCADE")
        finally:
            await connection.close()
    finally:
        if server is not None:
            server.remove()
