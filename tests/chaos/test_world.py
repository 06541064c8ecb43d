"""The world waits for a server that the machine keeps waiting, and for no other for ever."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.chaos import world as worlds
from tests.chaos.history import History, Sample
from tests.chaos.run import RULES
from tests.chaos.world import World
from tests.support.ports import LOOPBACK
from tests.support.postgres import PostgresCluster

GIVE_UP_AFTER = 0.3


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """One of a server that is not started, with little patience."""
    monkeypatch.setattr(worlds, "GIVE_UP_AFTER", GIVE_UP_AFTER)
    nobody = cast("PostgresCluster", None)
    made = World(History(RULES), nobody, f"postgresql://holdfast@{LOOPBACK}:1/chaos", tmp_path, 1)
    made.servers[0].log.write_text("its log")
    return made


@asynccontextmanager
async def stands_in(world: World, ready: Callable[[float], bool], *, starved: bool) -> AsyncIterator[None]:
    """Answers in place of the server; `ready` is asked with the seconds since the beginning.

    With each answer goes a sample of the machine, which kept the server waiting for longer still if that is `starved`.
    """
    time = asyncio.get_running_loop().time
    begun = time()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        took = time() - begun
        world.history.samples.append(Sample(time(), 0.0, (1000.0 if starved else 0.0,)))
        body = json.dumps({"ready": ready(took), "ends": "push"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    world.history.samples.append(Sample(begun, 0.0, (0.0,)))
    async with await asyncio.start_server(answer, LOOPBACK, world.servers[0].port):
        yield


async def test_a_server_without_a_processor_is_waited_for(world: World) -> None:
    """A crowded machine ends no run, however long it takes."""
    async with stands_in(world, lambda took: took > 4 * GIVE_UP_AFTER, starved=True):
        await world.serves_again([0])


async def test_a_server_that_could_serve_and_does_not_ends_the_run(world: World) -> None:
    """Promise 7: and it is told what it said last, and what it wrote down."""
    async with stands_in(world, lambda _: False, starved=False):
        with pytest.raises(TimeoutError, match="server 0 serves again") as caught:
            await world.serves_again([0])
    assert "'ready': False" in caught.value.__notes__[0]
    assert "its log" in caught.value.__notes__[0]
