"""The stand-in for PgBouncer breaks what PgBouncer breaks in transaction mode, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.support.polling import eventually
from tests.support.pooler import TransactionPooler
from tests.support.postgres import PostgresCluster


@pytest.fixture
async def pooler(postgres_each: PostgresCluster) -> AsyncIterator[TransactionPooler]:
    postgres_each.execute("DROP TABLE IF EXISTS marks", "CREATE TABLE marks AS SELECT 0 AS n")
    async with TransactionPooler(postgres_each.address(), size=2) as made:
        yield made


async def test_transactions_change_connections(pooler: TransactionPooler) -> None:
    """Inside a transaction the server connection stays; the next transaction has another."""
    client = await asyncpg.connect(pooler.address, statement_cache_size=0)
    query = "SELECT pg_backend_pid()"
    async with client.transaction():
        first, again = [await client.fetchval(query) for _ in range(2)]
    async with client.transaction():
        second = await client.fetchval(query)
    assert first == again != second
    await client.close()


async def test_more_clients_than_connections(pooler: TransactionPooler) -> None:
    """Clients wait for their turn, and all are served."""

    async def add() -> None:
        client = await asyncpg.connect(pooler.address, statement_cache_size=0)
        for _ in range(5):
            async with client.transaction():
                await client.execute("UPDATE marks SET n = n + 1")
        await client.close()

    await asyncio.gather(*(add() for _ in range(8)))
    client = await asyncpg.connect(pooler.address, statement_cache_size=0)
    assert await client.fetchval("SELECT n FROM marks") == 40
    assert pooler.transactions == 41
    await client.close()


async def test_prepared_statements_get_lost(pooler: TransactionPooler) -> None:
    """A client that keeps prepared statements meets a connection that never heard of them."""
    client = await asyncpg.connect(pooler.address)
    statement = await client.prepare("SELECT 1", name="kept")
    # asyncpg prepares without ending the request, so the first execution is on the same connection.
    assert await statement.fetchval() == 1
    with pytest.raises(asyncpg.InvalidSQLStatementNameError):
        await statement.fetchval()
    client.terminate()


@pytest.mark.parametrize("setting", ["search_path", "statement_timeout", "jit", "options"])
async def test_refuses_startup_settings(pooler: TransactionPooler, setting: str) -> None:
    """Only the settings that PgBouncer tracks may be given when connecting."""
    with pytest.raises(asyncpg.ProtocolViolationError, match=f"unsupported startup parameter: {setting}"):
        await asyncpg.connect(pooler.address, server_settings={setting: "1"})


async def test_tracked_settings_follow_the_client(pooler: TransactionPooler) -> None:
    """Two clients with different names and zones share connections without sharing those."""

    async def connect(name: str, zone: str) -> asyncpg.Connection[Any]:
        wanted = {"application_name": name, "TimeZone": zone}
        return await asyncpg.connect(pooler.address, statement_cache_size=0, server_settings=wanted)

    one, two = await connect("one", "Asia/Tokyo"), await connect("two", "Europe/Rome")
    query = "SELECT current_setting('application_name') || ' ' || current_setting('TimeZone')"
    for _ in range(3):
        assert await one.fetchval(query) == "one Asia/Tokyo"
        assert await two.fetchval(query) == "two Europe/Rome"
        assert await two.fetchval(query) == "two Europe/Rome"
    await one.close()
    await two.close()


async def test_unfinished_transaction_is_rolled_back(pooler: TransactionPooler, postgres_each: PostgresCluster) -> None:
    """A client that disappears takes its server connection, not its lock, with it."""
    client = await asyncpg.connect(pooler.address, statement_cache_size=0)
    await client.execute("BEGIN; UPDATE marks SET n = 1")
    client.terminate()
    for _ in range(4):
        other = await asyncpg.connect(pooler.address, statement_cache_size=0, timeout=10)
        await other.execute("UPDATE marks SET n = n + 10")
        await other.close()
    assert postgres_each.execute("SELECT n FROM marks") == [[40]]


async def test_cancel_reaches_the_statement(pooler: TransactionPooler) -> None:
    """A driver's time-out cancels the running statement, and the connection goes on."""
    client = await asyncpg.connect(pooler.address, statement_cache_size=0)
    with pytest.raises(TimeoutError):
        await client.execute("SELECT pg_sleep(60)", timeout=0.1)
    assert await client.fetchval("SELECT 1") == 1
    await client.close()


async def test_notifications_do_not_arrive(pooler: TransactionPooler, postgres_each: PostgresCluster) -> None:
    """LISTEN stays behind on a connection; what comes there between transactions is for nobody."""
    received: list[object] = []
    client = await asyncpg.connect(pooler.address, statement_cache_size=0)
    await client.add_listener("news", lambda *arguments: received.append(arguments))
    postgres_each.execute("NOTIFY news")
    await eventually(lambda: pooler.dropped > 0, what="the notification has come to the pooler")
    await client.execute("SELECT 1")
    assert not received
    client.terminate()


async def test_lost_server_connection(pooler: TransactionPooler, postgres_each: PostgresCluster) -> None:
    """A broken server connection is replaced; only a client in the middle of something notices."""
    client = await asyncpg.connect(pooler.address, statement_cache_size=0)
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    mine = f"{ending} AND backend_type = 'client backend'"
    postgres_each.execute(mine)

    async def answers() -> bool:
        try:
            other = await asyncpg.connect(pooler.address, statement_cache_size=0)
            await other.fetchval("SELECT 1")
            await other.close()
        except (asyncpg.PostgresError, OSError):
            return False
        return True

    await eventually(answers, what="the pooler has new connections")
    async with client.transaction():
        assert await client.fetchval("SELECT 1") == 1
    await client.close()
