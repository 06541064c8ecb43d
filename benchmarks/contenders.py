"""Everybody who is measured, by the name that bars and results use, in the order in which they take turns."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg

from benchmarks.callers import Contender
from benchmarks.peers.asyncpg_update import AsyncpgAlone, AsyncpgUpdate
from benchmarks.peers.django_sessions import DjangoSessions
from benchmarks.peers.litestar_alchemy import LitestarAlchemy
from benchmarks.peers.orm_update import OrmUpdate
from benchmarks.peers.pgbench_update import FILL, PgbenchUpdate
from benchmarks.peers.redis_getex import PIPELINE, RedisGetex
from benchmarks.peers.redis_server import DURABLE, FORGETFUL
from benchmarks.peers.sqlite_commit import SqliteCommit
from benchmarks.peers.starsessions_redis import StarsessionsRedis
from benchmarks.setting import Setting
from benchmarks.subject import METADATA, Holdfast, HoldfastCreates


@dataclass(frozen=True)
class Maker:
    """How a contender comes to be in a setting. Raises `PeerMissing` for one that cannot be had here."""

    make: Callable[[Setting], Awaitable[Contender]]
    alone: bool = False
    """Whether it has one caller, whatever the run's number is."""


async def _redis(setting: Setting) -> Contender:
    server = await setting.redis(FORGETFUL)
    return RedisGetex(server, setting.options.sessions, "nothing on disk")


async def _redis_pipelined(setting: Setting) -> Contender:
    server = await setting.redis(FORGETFUL)
    return RedisGetex(server, setting.options.sessions, f"{PIPELINE} in a pipeline", pipeline=PIPELINE)


async def _redis_durable(setting: Setting) -> Contender:
    server = await setting.redis(DURABLE)
    return RedisGetex(server, setting.options.sessions, "appendfsync always")


async def _postgresql(setting: Setting) -> Contender:
    return Holdfast("Holdfast on PostgreSQL", *await setting.postgresql())


async def _creates(setting: Setting) -> Contender:
    manager, _ = await setting.empty("creates")
    return HoldfastCreates("Holdfast on PostgreSQL, creates", manager)


async def _asyncpg(setting: Setting) -> Contender:
    _, tokens = await setting.postgresql()
    place = setting.place
    peer = await AsyncpgUpdate.best(place.address, place.schema, tokens, setting.options.callers, setting.moment)
    setting.stack.push_async_callback(peer.close)
    return peer


async def _asyncpg_alone(setting: Setting) -> Contender:
    _, tokens = await setting.postgresql()
    connection = await asyncpg.connect(setting.place.address)
    setting.stack.push_async_callback(connection.close)
    return AsyncpgAlone(connection, setting.place.schema, tokens)


async def _pgbench(setting: Setting) -> Contender:
    _, schema = await setting.empty("pgbench")
    rows = setting.options.sessions
    await setting.run_sql(FILL.format(schema=schema), json.dumps(METADATA), rows)
    await setting.run_sql(f"VACUUM ANALYZE {schema}.sessions")
    return await PgbenchUpdate.best(setting.place.address, schema, rows, setting.options.callers, setting.moment)


async def _orm(setting: Setting) -> Contender:
    schema, options = await setting.place.another("orm"), setting.options
    peer = await OrmUpdate.best(setting.place.address, schema, options.sessions, options.callers, setting.moment)
    setting.stack.push_async_callback(peer.close)
    return peer


async def _starsessions(setting: Setting) -> Contender:
    peer = await StarsessionsRedis.open(await setting.redis(FORGETFUL), setting.options.sessions)
    setting.stack.push_async_callback(peer.close)
    return peer


async def _litestar(setting: Setting) -> Contender:
    schema, options = await setting.place.another("litestar"), setting.options
    peer = await LitestarAlchemy.best(setting.place.address, schema, options.sessions, options.callers, setting.moment)
    setting.stack.push_async_callback(peer.close)
    return peer


async def _django(setting: Setting) -> Contender:
    schema, options = await setting.place.another("django"), setting.options
    peer = await DjangoSessions.best(setting.place.address, schema, options.sessions, options.callers, setting.moment)
    setting.stack.push_async_callback(peer.close)
    return peer


async def _sqlite(setting: Setting) -> Contender:
    return Holdfast("Holdfast on SQLite", *await setting.sqlite())


async def _sqlite3(setting: Setting) -> Contender:
    _, tokens = await setting.sqlite()
    peer = await asyncio.to_thread(SqliteCommit, setting.sqlite_path, setting.directory / "copy.db", tokens)
    setting.stack.callback(peer.close)
    return peer


# So that the two sides of each bar stand side by side in a round, with Holdfast's in the middle.
CONTENDERS: Final[Mapping[str, Maker]] = {
    "redis-durable": Maker(_redis_durable),
    "redis-pipelined": Maker(_redis_pipelined),
    "starsessions": Maker(_starsessions),
    "pgbench": Maker(_pgbench),
    "redis": Maker(_redis),
    "postgresql": Maker(_postgresql),
    "asyncpg": Maker(_asyncpg),
    "postgresql-creates": Maker(_creates),
    "orm": Maker(_orm),
    "litestar": Maker(_litestar),
    "django": Maker(_django),
    "postgresql-1": Maker(_postgresql, alone=True),
    "asyncpg-1": Maker(_asyncpg_alone, alone=True),
    "sqlite": Maker(_sqlite),
    "sqlite3": Maker(_sqlite3),
}
NAMES: Final = tuple(CONTENDERS)
