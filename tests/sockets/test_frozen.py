"""A server that stood still while the world went on delivers nothing that it should not, once it runs again."""

import asyncio
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from holdfast.sessions.watches import FRESH_SECONDS
from tests.concurrency.place import Place
from tests.sockets.server import PATIENT, ending, running
from tests.support.polling import eventually
from tests.support.stopwatch import waited

ROOT = Path(__file__).parents[2]


async def stamps(client: ClientConnection, number: int) -> None:
    """Read so many messages of the stream."""
    for _ in range(number):
        await client.recv()


@pytest.mark.parametrize("seconds", [FRESH_SECONDS + 1])
async def test_a_resumed_server_delivers_nothing_to_a_dead_session(
    process_place: Place, tmp_path: Path, seconds: float
) -> None:
    """F-30: frozen, revoked elsewhere, resumed: not one message of the stream passes, and the socket closes at once."""
    # A look that is under way while it freezes must be answered afterwards: its deadline is not past by then.
    settings = {**PATIENT, "DATABASE_URL": process_place.address, "PYTHONPATH": str(ROOT)}
    async with (
        process_place.manager() as manager,
        running(tmp_path, "server", settings, "tests.sockets.streaming") as server,
    ):
        dead, living = await manager.create_session("u1"), await manager.create_session("u2")
        async with (
            server.connect("/stream", token=dead.token) as streamed,
            server.connect("/ws", token=dead.token) as asked,
            server.connect("/stream", token=living.token, ping_interval=None) as other,
        ):
            await asyncio.gather(stamps(streamed, 5), stamps(other, 5))
            server.freeze()
            frozen = time.monotonic()
            assert await manager.end_session(dead.id)
            await asked.send("are you there?")
            await eventually(lambda: time.monotonic() > frozen + seconds, what="the freeze is long enough")
            server.thaw()
            thawed = time.monotonic()
            code, reason, received = await ending(streamed)
            assert (code, reason) == (4403, "revoked")
            assert time.monotonic() - thawed < 5.0
            assert [stamp for stamp in received if float(stamp) > frozen] == []
            assert await ending(asked) == (4403, "revoked", [])
            # Who is still logged in is served again.
            while float(await other.recv()) < thawed:
                pass


async def test_a_short_freeze_is_noticed_within_the_promise(process_place: Place, tmp_path: Path) -> None:
    """F-30, promise 6: even when what is known is still fresh enough to deliver, the end is seen right after it."""
    settings = {"DATABASE_URL": process_place.address, "PYTHONPATH": str(ROOT)}
    async with (
        process_place.manager() as manager,
        running(tmp_path, "server", settings, "tests.sockets.streaming") as server,
    ):
        new = await manager.create_session("u1")
        async with server.connect("/stream", token=new.token) as client:
            await stamps(client, 5)
            server.freeze()
            assert await manager.end_session(new.id)
            server.thaw()
            thawed, before = time.monotonic(), waited(server.process.pid)
            code, reason, received = await ending(client)
            assert (code, reason) == (4403, "revoked")
            # What it waited for a processor meanwhile is the machine's.
            bound = 1.0 + waited(server.process.pid) - before
            assert [stamp for stamp in received if float(stamp) > thawed + bound] == []
