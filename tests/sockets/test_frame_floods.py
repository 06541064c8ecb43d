"""Floods of frames that no application sees: pings, and pieces of messages that never end."""

import asyncio
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its types are a package of their own
import pytest

from tests.concurrency.place import Place
from tests.sockets.raw import CLOSE, CONTINUATION, PING, TEXT, RawClient, frame
from tests.sockets.server import Server, running
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch

CLOSED = bytes((0x80 | CLOSE, 10)) + (1008).to_bytes(2, "big") + b"too fast"
MANY = 8_000


async def slowest_echo(server: Server, token: str, until: asyncio.Event) -> float:
    """How long the slowest echo took, of those begun before the event, not counting what the machine held up."""
    slowest = 0.0
    async with server.connect(token=token) as client:
        while not until.is_set():
            watch = Stopwatch(server.process.pid)
            await client.send("still quick?")
            await client.recv()
            slowest = max(slowest, watch.seconds)
            # Below the rate; also while the flood goes on.
            await asyncio.sleep(0.05)
    return slowest


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        pytest.param(b"", frame(PING), id="pings"),
        pytest.param(frame(TEXT, b"a", final=False), frame(CONTINUATION, final=False), id="continuations"),
    ],
)
async def test_a_flood_of_empty_frames_disturbs_nobody(tmp_path: Path, first: bytes, repeated: bytes) -> None:
    """S-47: sockets that send only such frames are closed with 1008, and meanwhile another's echo stays quick."""
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    # The echo is to wait for the flood, if for anything, and not for a disk.
    settings = {"DATABASE_URL": place.address, "HOLDFAST_VALIDATE_EVERY_SECONDS": "60"}
    async with place.manager() as manager, running(tmp_path, "server", settings) as server:
        bad, good = await manager.create_session("bad"), await manager.create_session("good")
        done = asyncio.Event()
        echoing = asyncio.create_task(slowest_echo(server, good.token, done))
        told = 0
        for _ in range(5):
            with RawClient(server.address, "/ws", bad.token) as client:
                reading, received = client.read()
                client.socket.sendall(first)
                client.flood(repeated * MANY, 60_000_000)
                await eventually(lambda: not reading.is_alive(), what="it is closed")  # noqa: B023 - awaited in the turn
                told += CLOSED in received
                assert client.sent < 30_000_000
        done.set()
        # One that does not take its pongs in time is dropped without a word; here it reads.
        assert told > 0
        assert await echoing < 0.3
        await eventually(
            lambda: server.written().count("WEBSOCKET /ws 1008") == 5, what="it says that they went too fast"
        )


async def test_pings_whose_answers_nobody_reads_cost_no_memory(tmp_path: Path) -> None:
    """S-47: as many large pings as the server takes, and their pongs left unread: closed, and memory flat."""
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    async with place.manager() as manager, running(tmp_path, "server", {"DATABASE_URL": place.address}) as server:
        new = await manager.create_session("u1")
        with RawClient(server.address, "/ws", new.token) as client:
            watched = psutil.Process(server.process.pid)
            before = largest = watched.memory_info().rss
            flooding = client.flood(frame(PING, b"x" * 125) * 1000, 150_000_000)

            def over() -> bool:
                nonlocal largest
                largest = max(largest, watched.memory_info().rss)
                return not flooding.is_alive()

            await eventually(over, what="the flood ends", deadline=60)
            assert client.sent < 75_000_000
            assert largest - before < 20 * 1024 * 1024
