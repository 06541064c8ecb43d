"""Tokens that are kept for the way back, while the place for them comes and goes."""

import asyncio

import asyncpg

from holdfast import StoreOptions
from holdfast.move import postgresql_objects as objects
from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.sessions.tokens import clear_digest_of_new
from holdfast.sql.address import PostgresqlAddress, parse_address
from holdfast.sql.keeping import KEEP_TOKEN
from holdfast.sql.postgresql import PostgresqlStore
from tests.conftest import MigratedDatabases
from tests.support.polling import eventually


async def test_a_create_during_the_end_of_a_move_is_not_refused(migrated_database: MigratedDatabases) -> None:
    """Move: a process is about to keep a token when the move is completed, and the place for it goes. (Schedule 49.)"""
    address = migrated_database(None)
    parsed = parse_address(address)
    assert isinstance(parsed, PostgresqlAddress)
    store = PostgresqlStore(parsed, StoreOptions())
    await store.open(Policy(), Clock())
    mover, watcher = await asyncpg.connect(address), await asyncpg.connect(address)
    try:
        await objects.keep_tokens(mover, "public")
        await store.keep_token(clear_digest_of_new("session-1"))
        assert await watcher.fetchval(f"SELECT count(*) FROM {objects.TOKENS}") == 1
        async with mover.transaction():
            await mover.execute(f"DROP FUNCTION {KEEP_TOKEN}(bytea, text)")
            await mover.execute(f"DROP TABLE {objects.TOKENS}")
            keeping = asyncio.create_task(store.keep_token(clear_digest_of_new("session-2")))

            async def waits() -> bool:
                waiting: bool = await watcher.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                    "WHERE NOT l.granted AND d.datname = current_database())"
                )
                return waiting

            await eventually(waits, what="the store waits for the mover's transaction")
        await keeping
        await store.keep_token(clear_digest_of_new("session-3"))
    finally:
        await mover.close()
        await watcher.close()
        await store.close()
