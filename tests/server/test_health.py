"""Alive and ready are two questions."""

import asyncio

import httpx2
import pytest

from holdfast.memory import MemoryStore
from holdfast.server import health
from holdfast.server.app import create_app
from holdfast.server.health import Readiness
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.testing import FaultyStore
from tests.api.api import SETTINGS


class Time:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def never(_: float) -> None:
    """A pause without end: the test looks by itself."""
    await asyncio.Event().wait()


class Server:
    """An application over a store that can fail, whose prober looks when the test says so."""

    def __init__(self) -> None:
        self.store, self.time = FaultyStore(MemoryStore()), Time()
        manager = SETTINGS.manager(self.store)
        self.readiness = Readiness(manager, monotonic=self.time, pause=never)
        self.app = create_app(SETTINGS, manager, self.readiness)

    async def get(self, path: str) -> httpx2.Response:
        """Ask it."""
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app), base_url="http://holdfast.test"
        ) as client:
            return await client.get(path)

    async def reason(self) -> str:
        """What `/readyz` says, after checking that its status says the same."""
        response = await self.get("/readyz")
        body = response.json()
        assert response.status_code == (200 if body["ready"] else 503)
        assert ("retry-after" in response.headers) is not body["ready"]
        assert set(body) == {"ready", "reason", "ends"}
        # It listens from the first time on that its store was there.
        assert body["ends"] == ("push" if self.store.calls["ping"] else "idle")
        return str(body["reason"])


async def test_ready_while_the_store_answers() -> None:
    """A server whose store answers is alive and ready, and says no more than a word."""
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        assert await server.reason() == "ok"
        assert (await server.get("/healthz")).json() == {"alive": True}


async def test_readiness_falls_and_returns_without_a_restart() -> None:
    """I-13: not ready within five seconds of losing the store, ready with the first good answer after that."""
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        for second in range(1, 6):
            server.time.now += 1
            server.store.fail("ping")
            await server.readiness.look()
            assert await server.reason() == ("ok" if second <= 4 else "unavailable")
        assert "holdfast_ready 0.0" in (await server.get("/metrics")).text
        assert (await server.get("/healthz")).status_code == 200
        server.time.now += 1
        await server.readiness.look()
        assert await server.reason() == "ok"
        assert "holdfast_ready 1.0" in (await server.get("/metrics")).text


async def test_a_prober_that_hangs_is_not_ready() -> None:
    """I-13: the age of the last good answer counts, even when no look ends at all."""
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        server.time.now += 4.1
        assert await server.reason() == "unavailable"


async def test_a_ping_without_an_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that takes the ping and falls silent counts as one that does not answer, and the log says so."""
    monkeypatch.setattr(health, "PING_TIMEOUT", 0.001)
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        server.store.stall("ping")
        server.time.now += 5
        await server.readiness.look()
        assert await server.reason() == "unavailable"
    assert "the store does not answer; trying every second: it was silent for 0.001 s" in caplog.messages


async def test_a_server_starts_without_its_store() -> None:
    """S-72: a store out of reach at start leaves a server that is alive, not ready, and ready once it is there."""
    server = Server()
    server.store.fail("open", error=StoreUnavailable("postgresql://u:hunter2@db is not there"))
    async with server.app.router.lifespan_context(server.app):
        response = await server.get("/readyz")
        assert response.json() == {"ready": False, "reason": "unavailable", "ends": "idle"}
        assert (await server.get("/healthz")).status_code == 200
        await server.readiness.look()
        assert await server.reason() == "ok"


async def test_an_unexpected_fault_of_the_store_is_no_end_of_the_prober() -> None:
    """Whatever the store raises, the prober goes on."""
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        server.time.now += 5
        server.store.fail("ping", error=RuntimeError("a bug"))
        await server.readiness.look()
        assert await server.reason() == "unavailable"
        await server.readiness.look()
        assert await server.reason() == "ok"


async def test_a_store_that_refuses_keeps_the_server_from_starting() -> None:
    """A store that must not be used is an error of the start, with the store's own message."""
    server = Server()
    server.store.fail("open", error=StoreRefused("use holdfast db import"))
    with pytest.raises(StoreRefused, match="db import"):
        async with server.app.router.lifespan_context(server.app):
            pass


async def test_whoever_runs_the_process_hears_of_a_refusal() -> None:
    """With `on_refused` set a refusal at the start is handed over instead."""
    server = Server()
    heard: list[StoreRefused] = []
    server.readiness.on_refused = heard.append
    server.store.fail("open", error=StoreRefused("first"))
    async with server.app.router.lifespan_context(server.app):
        assert await server.reason() == "refused"
    assert [str(refusal) for refusal in heard] == ["first"]


async def test_a_later_refusal_is_an_outage_and_no_end() -> None:
    """A store that refuses after it has served makes the server not ready; it goes on once the store is mended."""
    server = Server()
    heard: list[StoreRefused] = []
    server.readiness.on_refused = heard.append
    async with server.app.router.lifespan_context(server.app):
        server.time.now += 5
        server.store.fail("ping", error=StoreRefused("its tables are missing"))
        await server.readiness.look()
        assert await server.reason() == "refused"
        await server.readiness.look()
        assert await server.reason() == "ok"
    assert heard == []


async def test_a_stopping_server_is_not_ready() -> None:
    """From the beginning of the end on, a balancer passes it over."""
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        await server.readiness.stop()
        assert await server.reason() == "stopping"


async def test_health_asks_no_store() -> None:
    """Neither `/healthz` nor `/readyz` nor `/metrics` makes a call of the store."""
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        before = server.store.calls.total()
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
            await server.get(path)
        assert server.store.calls.total() == before


async def test_the_prober_looks_again_after_each_pause() -> None:
    """The background task looks, waits for the interval, and looks again."""
    store, turns = FaultyStore(MemoryStore()), asyncio.Semaphore(0)
    pauses: asyncio.Queue[float] = asyncio.Queue()

    async def pause(seconds: float) -> None:
        pauses.put_nowait(seconds)
        await turns.acquire()

    manager = SETTINGS.manager(store)
    readiness = Readiness(manager, pause=pause)
    await readiness.start()
    for looks in (1, 2, 3):
        assert await pauses.get() == 1.0
        assert store.calls["ping"] == looks
        turns.release()
    await readiness.stop()
    await manager.close()
