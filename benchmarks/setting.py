"""Where the contenders of one run live: stores that are filled once, when the first of them asks."""

import argparse
import asyncio
import gc
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from benchmarks.database import Database
from benchmarks.peers.missing import PeerMissing
from benchmarks.peers.redis_getex import VALUE
from benchmarks.peers.redis_server import RedisServer
from benchmarks.subject import fill
from holdfast import SessionManager
from holdfast.sessions.store import StoreOptions


@dataclass
class Setting:
    """One run's databases, and what was put there. Everything is taken down with the stack."""

    options: argparse.Namespace
    stack: AsyncExitStack
    directory: Path
    place: Database
    notes: list[str] = field(default_factory=list)
    creates: dict[str, float] = field(default_factory=dict)
    """How many sessions a second each store was filled with."""
    _stores: dict[str, tuple[SessionManager, list[str]]] = field(default_factory=dict)
    _redis: dict[tuple[str, ...], RedisServer] = field(default_factory=dict)

    @property
    def moment(self) -> float:
        """For slices that nobody keeps, and for finding a peer's best size."""
        return min(1.0, float(self.options.seconds))

    async def postgresql(self) -> tuple[SessionManager, list[str]]:
        """Holdfast on PostgreSQL, and the tokens of its sessions."""
        return await self._store("postgresql", self.place.address, self.place.schema)

    async def sqlite(self) -> tuple[SessionManager, list[str]]:
        """Holdfast on SQLite, and the tokens of its sessions."""
        return await self._store("sqlite", self.sqlite_path, None)

    @property
    def sqlite_path(self) -> Path:
        """The file of `sqlite`."""
        return self.directory / "sessions.db"

    async def empty(self, name: str) -> tuple[SessionManager, str]:
        """Holdfast on PostgreSQL in one more schema, with no sessions; and the schema."""
        schema = await self.place.another(name)
        return await self._opened(self.place.address, schema), schema

    async def redis(self, configuration: tuple[str, ...]) -> RedisServer:
        """A server of this run with that configuration, which holds as many values as there are sessions."""
        if self.options.no_redis:
            raise PeerMissing("Redis was left out by --no-redis, so B1 has no peer, and neither has starsessions")
        if configuration not in self._redis:
            folder = self.directory / f"redis-{len(self._redis)}"
            server = await asyncio.to_thread(RedisServer.start, folder, configuration)
            self.stack.callback(server.stop)
            await asyncio.to_thread(server.fill, self.options.sessions, VALUE)
            self._redis[configuration] = server
        return self._redis[configuration]

    async def run_sql(self, statement: str, *values: object) -> None:
        """One statement on a connection of its own."""
        connection = await asyncpg.connect(self.place.address)
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()

    async def _store(self, name: str, address: str | Path, schema: str | None) -> tuple[SessionManager, list[str]]:
        if name not in self._stores:
            print(f"filling {name} with {self.options.sessions:,} sessions", flush=True)
            manager = await self._opened(address, schema)
            tokens, self.creates[name] = await fill(manager, self.options.sessions, self.options.callers)
            self._stores[name] = manager, tokens
            gc.collect()
        return self._stores[name]

    async def _opened(self, address: str | Path, schema: str | None) -> SessionManager:
        options = StoreOptions(upgrade=True) if schema is None else StoreOptions(schema=schema, upgrade=True)
        return await self.stack.enter_async_context(SessionManager(address, sweep_interval=None, options=options))
