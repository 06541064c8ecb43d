"""The proxy's faults are the ones it names, seen through a real client and a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.support.polling import eventually
from tests.support.ports import LOOPBACK
from tests.support.postgres import PostgresCluster
from tests.support.proxy import FaultProxy

#: What a client may see when its connection goes away.
LOST = (
    ConnectionError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
)


@pytest.fixture
def address(postgres_each: PostgresCluster) -> str:
    """The server without the proxy, with a table `marks` of one row, 0."""
    postgres_each.execute("DROP TABLE IF EXISTS marks", "CREATE TABLE marks AS SELECT 0 AS n")
    return postgres_each.address()


@pytest.fixture
async def proxy(address: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(address, seed=1) as made:
        yield made


@pytest.fixture
async def client(proxy: FaultProxy, address: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection through the proxy."""
    connection = await asyncpg.connect(proxy.address(address), timeout=10)
    yield connection
    connection.terminate()


async def stored(address: str) -> Any:
    """What the server has, asked past the proxy."""
    connection = await asyncpg.connect(address)
    try:
        return await connection.fetchval("SELECT n FROM marks")
    finally:
        await connection.close()


async def test_passes_through_and_counts(proxy: FaultProxy, client: asyncpg.Connection[Any]) -> None:
    """Large answers arrive whole, and nothing is counted that was not sent."""
    assert await client.fetchval("SELECT repeat('x', 3000000)") == "x" * 3_000_000
    counters = proxy.counters
    assert (counters.accepted, proxy.open_connections) == (1, 1)
    assert counters.to_client == counters.from_server > 3_000_000
    before = counters.from_client
    await asyncio.sleep(0)
    assert counters.from_client == counters.to_server == before
    await client.close()
    await eventually(lambda: proxy.open_connections == 0, what="the connection has ended")


async def test_counts_round_trips(proxy: FaultProxy, client: asyncpg.Connection[Any]) -> None:
    """One more for a plain statement; a long answer in many pieces is one too."""
    before = proxy.counters.turns
    await client.execute("SELECT repeat('x', 3000000)")
    assert proxy.counters.turns == before + 1


async def test_hold_is_silence_both_ways(proxy: FaultProxy, client: asyncpg.Connection[Any], address: str) -> None:
    """Held, a query hangs, and so does a new client; both go on afterwards."""
    proxy.hold()
    query = asyncio.create_task(client.fetchval("SELECT 1"))
    newcomer = asyncio.create_task(asyncpg.connect(proxy.address(address), timeout=30))
    done, _ = await asyncio.wait({query, newcomer}, timeout=0.2)
    assert not done
    assert proxy.counters.accepted == 2
    await proxy.pass_through()
    assert await query == 1
    await (await newcomer).close()


async def test_refuse_keeps_present_connections(
    proxy: FaultProxy, client: asyncpg.Connection[Any], address: str
) -> None:
    """Refusing is for newcomers; afterwards the same port accepts again."""
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(proxy.address(address), timeout=10)
    assert await client.fetchval("SELECT 1") == 1
    await proxy.pass_through()
    await (await asyncpg.connect(proxy.address(address), timeout=10)).close()


@pytest.mark.parametrize("reset", [True, False])
async def test_cut_ends_present_connections(
    proxy: FaultProxy, client: asyncpg.Connection[Any], address: str, reset: bool
) -> None:
    """A cut is felt by a waiting client at once, and is over with that."""
    query = asyncio.create_task(client.fetchval("SELECT pg_sleep(60)"))
    seen = proxy.counters.to_server
    await eventually(lambda: proxy.counters.to_server > seen, what="the query was sent")
    assert proxy.cut(reset=reset) == 1
    with pytest.raises(LOST):
        await query
    await (await asyncpg.connect(proxy.address(address), timeout=10)).close()


async def test_cut_sends_a_reset(proxy: FaultProxy) -> None:
    """With a reset, the client's socket really gets RST; without, the orderly end."""
    for reset in (True, False):
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        await eventually(lambda: proxy.open_connections == 1, what="the connection is accepted")
        proxy.cut(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        else:
            assert await reader.read() == b""
        writer.close()
        await eventually(lambda: proxy.open_connections == 0, what="the connection has ended")


@pytest.mark.parametrize("count", [0, 1, 57, 5000])
async def test_reset_after_bytes_to_client(proxy: FaultProxy, client: asyncpg.Connection[Any], count: int) -> None:
    """Exactly so many bytes pass, then the connection is reset, once."""
    before = proxy.counters.to_client
    proxy.reset_after(count, "to_client")
    with pytest.raises(LOST):
        await client.fetchval("SELECT repeat('x', 100000)")
    assert proxy.counters.to_client == before + count


async def test_reset_after_bytes_to_server(proxy: FaultProxy, client: asyncpg.Connection[Any], address: str) -> None:
    """A statement of which the server saw only the beginning has no effect."""
    proxy.reset_after(10, "to_server")
    with pytest.raises(LOST):
        await client.execute("UPDATE marks SET n = 1")
    assert await stored(address) == 0
    await (await asyncpg.connect(proxy.address(address), timeout=10)).close()


async def test_slow_lines_are_slow_and_correct(proxy: FaultProxy, client: asyncpg.Connection[Any]) -> None:
    """Latency, slices and a narrow line change when the bytes come, not which."""
    text = "SELECT string_agg(n::text, ',') FROM generate_series(1, 500) AS n"
    expected = ",".join(str(n) for n in range(1, 501))
    proxy.slice(1)
    assert await client.fetchval(text) == expected
    await proxy.pass_through()
    proxy.bandwidth(20_000)
    started = time.monotonic()
    assert await client.fetchval("SELECT repeat('x', 4000)") == "x" * 4000
    assert time.monotonic() - started >= 0.15
    await proxy.pass_through()
    proxy.latency(0.05, jitter=0.05)
    started = time.monotonic()
    assert await client.fetchval("SELECT 1") == 1
    # At least there and back once.
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("way", ["simple", "prepared", "commit"])
async def test_lost_answer(proxy: FaultProxy, client: asyncpg.Connection[Any], address: str, way: str) -> None:
    """The server has committed, the client sees a lost connection: the unknown outcome."""
    prepared = await client.prepare("UPDATE marks SET n = $1")

    async def update() -> None:
        if way == "prepared":
            await prepared.fetch(1)
        elif way == "simple":
            await client.execute("UPDATE marks SET n = 1")
        else:
            async with client.transaction():
                await client.execute("UPDATE marks SET n = $1", 1)

    trap = proxy.drop_answer_to(b"commit" if way == "commit" else b"update marks")
    with pytest.raises(LOST):
        await update()
    assert trap.sprung.is_set()
    assert await stored(address) == 1


async def test_lost_answer_waits_for_execution(
    proxy: FaultProxy, client: asyncpg.Connection[Any], address: str
) -> None:
    """Preparing the statement does not spring the trap, other statements pass, and once is once."""
    trap = proxy.drop_next_answer(lambda sql: sql.startswith(b"UPDATE"))
    statement = await client.prepare("UPDATE marks SET n = $1")
    assert await client.fetchval("SELECT n FROM marks") == 0
    assert not trap.sprung.is_set()
    with pytest.raises(LOST):
        await statement.fetch(1)
    assert await stored(address) == 1
    again = await asyncpg.connect(proxy.address(address), timeout=10)
    await again.execute("UPDATE marks SET n = $1", 2)
    await again.close()
    assert await stored(address) == 2


async def test_lost_request(proxy: FaultProxy, client: asyncpg.Connection[Any], address: str) -> None:
    """The client cannot tell it from a lost answer, but the server never got the statement."""
    trap = proxy.drop_request(lambda sql: b"UPDATE" in sql)
    with pytest.raises(LOST):
        await client.execute("UPDATE marks SET n = $1", 1)
    assert trap.sprung.is_set()
    assert await stored(address) == 0


async def test_lost_answer_of_a_dying_server(proxy: FaultProxy, client: asyncpg.Connection[Any]) -> None:
    """A session that the statement itself ends never gets ready again; the trap springs anyway."""
    trap = proxy.drop_next_answer()
    with pytest.raises(LOST):
        await client.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    await asyncio.wait_for(trap.sprung.wait(), 10)


async def test_retarget_and_raw_protocol() -> None:
    """Any protocol passes, new connections go to the new target, a dead target is a lost connection."""

    def greet(name: bytes) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(name + await reader.readline())
            writer.close()

        return serve

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"hello\n")
        answer = await reader.read()
        writer.close()
        return answer

    servers = [await asyncio.start_server(greet(name), LOOPBACK, 0) for name in (b"one ", b"two ")]
    addresses = [f"http://{LOOPBACK}:{each.sockets[0].getsockname()[1]}" for each in servers]
    async with FaultProxy(addresses[0], protocol="raw") as proxy:
        assert await ask(proxy.port) == b"one hello\n"
        proxy.retarget(addresses[1])
        assert await ask(proxy.port) == b"two hello\n"
        with pytest.raises(ValueError, match="sees statements"):
            proxy.drop_answer_to(b"COMMIT")
        for each in servers:
            each.close()
        with pytest.raises(ConnectionResetError):
            await ask(proxy.port)
