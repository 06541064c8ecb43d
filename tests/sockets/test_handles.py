"""A server whose open files are limited: it refuses what it has no room for, and serves what it has."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.concurrency.place import Place
from tests.sockets.server import running
from tests.support.polling import eventually


async def test_a_server_short_of_handles_refuses_new_sockets_and_keeps_the_others(
    process_place: Place, tmp_path: Path
) -> None:
    """F-34, S-48: with few handles it has fewer sockets, says so, and outlives the moment when none is left at all."""
    settings = {"DATABASE_URL": process_place.address, "HOLDFAST_SOCKETS_PER_SESSION": "1000"}
    async with process_place.manager() as manager, running(tmp_path, "server", settings, files=128) as server:
        assert "leaves room for 96 sockets" in server.written()
        new = await manager.create_session("u1")
        clients = [await server.connect(token=new.token).__aenter__() for _ in range(96)]
        with pytest.raises(InvalidStatus) as caught:
            await server.connect(token=new.token).__aenter__()
        assert caught.value.response.status_code == 503
        port = int(server.address.rpartition(":")[2])
        began = time.monotonic()
        # Now the last handles go, to connections that say nothing.
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        await eventually(lambda: "Too many open files" in server.written(), what="the handles have run out")
        for client in clients[:10]:
            await client.send("still served")
            assert await client.recv() == "still served"
        # It tries once a second, and not a thousand times each: nobody was served while it did.
        assert server.written().count("Too many open files") < 100 * (time.monotonic() - began + 1)
        for each in silent:
            each.close()
        async with asyncio.timeout(30):
            await clients.pop().close()
            await server.get("/healthz")
            async with server.connect(token=new.token) as client:
                await client.send("new again")
                assert await client.recv() == "new again"
        for client in clients:
            await client.close()
        server.signal()
        assert await server.ended() == 0
