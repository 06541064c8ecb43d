"""Stopping a server that has sockets: gently, in random order, and in time."""

import asyncio
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from tests.concurrency.place import Place, at_most
from tests.sockets.server import PATIENT, Server, ending, running
from tests.support.polling import eventually

SOCKETS = 1000
DELAY = 4.0
WINDOW = 4.0


async def opened(server: Server, tokens: list[str]) -> list[ClientConnection]:
    """A socket for each token, in this order, some at a time."""
    clients: dict[int, ClientConnection] = {}

    async def one(number: int) -> None:
        clients[number] = await server.connect(token=tokens[number], ping_interval=None).__aenter__()

    await at_most(50, [lambda number=number: one(number) for number in range(len(tokens))])  # type: ignore[misc]  # a lambda that binds its own number
    return [clients[number] for number in range(len(tokens))]


async def test_a_stopping_server_sends_its_sockets_away_in_random_order(tmp_path: Path) -> None:
    """F-27: a thousand sockets, 1012 for each over the window; not ready first, no new ones, and an exit in time."""
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    settings = {
        **PATIENT,
        "DATABASE_URL": place.address,
        "HOLDFAST_DRAIN_SECONDS": str(WINDOW),
        "HOLDFAST_DRAIN_DELAY_SECONDS": str(DELAY),
        "HOLDFAST_SOCKETS_PER_USER": "1000",
    }
    async with place.manager() as manager, running(tmp_path, "server", settings) as server:
        sessions = [await manager.create_session(f"u{each % 10}") for each in range(SOCKETS // 10)]
        clients = await opened(server, [each.token for each in sessions for _ in range(10)])
        closed: list[tuple[float, int]] = []

        async def watch(number: int, client: ClientConnection) -> None:
            assert await ending(client) == (1012, "restart", [])
            closed.append((time.monotonic(), number))

        watching = [asyncio.ensure_future(watch(*each)) for each in enumerate(clients)]
        server.signal()
        signalled = time.monotonic()

        async def unready() -> bool:
            response = await server.get("/readyz")
            return response.status_code == 503 and response.json()["reason"] == "stopping"

        await eventually(unready, what="it is not ready any more")
        # The balancer learns first: sockets are all there, and new ones may still come.
        assert closed == []
        late = await server.connect(token=sessions[0].token).__aenter__()
        watching.append(asyncio.ensure_future(watch(SOCKETS, late)))
        await eventually(lambda: len(closed) > 0, what="the drain begins")
        with pytest.raises(InvalidStatus) as caught:
            await server.connect(token=sessions[0].token).__aenter__()
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "1"
        await asyncio.gather(*watching)
        assert await server.ended() == 0
        assert time.monotonic() - signalled < DELAY + WINDOW + 5 + 10
        assert len(closed) == SOCKETS + 1
        times, order = [at for at, _ in closed], [number for _, number in closed]
        # Spread over the window: no fifth of it has more than half of them.
        first = times[0]
        for part in range(5):
            within = [at for at in times if part * WINDOW / 5 <= at - first < (part + 1) * WINDOW / 5]
            assert len(within) < SOCKETS / 2
        # In no order: about every second pair of neighbours is the other way round than it was opened.
        turned = sum(one > two for one, two in pairwise(order))
        assert 0.35 * SOCKETS < turned < 0.65 * SOCKETS


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(tmp_path: Path, second: signal.Signals) -> None:
    """F-27: whoever asks twice does not wait for the window."""
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    settings = {"DATABASE_URL": place.address, "HOLDFAST_DRAIN_SECONDS": "3600"}
    async with place.manager() as manager, running(tmp_path, "server", settings) as server:
        new = await manager.create_session("u1")
        clients = await opened(server, [new.token] * 10)
        server.signal()
        await eventually(lambda: "stopping" in server.written(), what="it stops")
        server.signal(second)
        # It would wait for an hour.
        await server.ended()
        for client in clients:
            assert (await ending(client))[0] in {1006, 1012}
        assert "Traceback" not in server.written()


async def test_an_idle_server_stops_without_waiting(tmp_path: Path) -> None:
    """F-27: with no socket open there is nothing to drain."""
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path / 's.db'}", "HOLDFAST_DRAIN_SECONDS": "3600"}
    async with running(tmp_path, "server", settings) as server:
        server.signal()
        assert await server.ended() == 0


async def test_clients_of_a_killed_server_find_the_other_one(process_place: Place, tmp_path: Path) -> None:
    """F-29: one of two servers is killed; all its clients come to the other at once, and every one is served."""
    settings = {**PATIENT, "DATABASE_URL": process_place.address, "HOLDFAST_SOCKETS_PER_SESSION": "1000"}
    settings["HOLDFAST_SOCKETS_PER_USER"] = "1000"
    async with (
        process_place.manager() as manager,
        running(tmp_path, "one", settings) as one,
        running(tmp_path, "two", settings) as two,
    ):
        sessions = [await manager.create_session(f"u{each}") for each in range(20)]
        tokens = [each.token for each in sessions for _ in range(15)]
        clients = await opened(one, tokens)
        staying = await opened(two, [sessions[0].token] * 5)
        one.process.kill()
        for client in clients:
            assert (await ending(client))[0] == 1006
        again = await asyncio.gather(*(two.connect(token=token, ping_interval=None).__aenter__() for token in tokens))
        for client in (*again, *staying):
            await client.send("here")
            assert await client.recv() == "here"
        for each in sessions:
            found = await manager.get_by_id(each.id)
            assert found is not None
            extra = 10 if each.id == sessions[0].id else 0
            # Two handshakes and one message for each of its clients.
            assert found.request_count == 45 + extra
        for client in (*again, *staying):
            await client.close()
        assert (await two.get("/readyz")).status_code == 200
