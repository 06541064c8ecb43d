"""Who opens the manager of the drop-in, and who closes it: with a lifespan, without one, and beside others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from holdfast import SessionManager, StoreRefused, StoreUnavailable, get_session_manager
from holdfast.memory import MemoryStore
from holdfast.sessions import process as process_module
from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.testing import FaultyStore
from holdfast.web.lazy_manager import LazyManager
from holdfast.web.lifespan import session_lifespan
from holdfast.web.session_middleware import SessionMiddleware
from tests.web.keeping import ALL_KINDS, BASE, Places


@pytest.fixture(params=ALL_KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


@pytest.fixture
def store() -> FaultyStore:
    """A store whose openings and closings are counted."""
    return FaultyStore(MemoryStore())


async def count(request: Request) -> Response:
    """Counts its visits."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse(request.session["visits"])


async def _misconfigured() -> None:
    raise LookupError("no configuration")


def application(store: Any, lifespan: Any = None) -> tuple[Starlette, SessionManager]:
    """An application with a manager of its own, not open."""
    manager = SessionManager(store)
    middleware = [Middleware(SessionMiddleware, secret_key="unused", manager=manager)]
    return Starlette(routes=[Route("/", count)], middleware=middleware, lifespan=lifespan), manager


def is_open(manager: SessionManager) -> bool:
    """Whether calls of the manager would be answered."""
    try:
        return manager.store is not None
    except StoreUnavailable:
        return False


def visit(client: TestClient, *expected: int) -> None:
    """Visit so often, and be counted."""
    for number in expected:
        answer = client.get("/")
        assert (answer.status_code, answer.json()) == (200, number)


def test_with_a_lifespan(places: Places) -> None:
    """Opened when the application has started, closed when it has stopped, and the values outlive that."""
    app, manager = application(places.new())
    client = TestClient(app)
    for visits in ((1, 2, 3), (4, 5)):
        with client:
            assert is_open(manager)
            visit(client, *visits)
        assert not is_open(manager)


def test_without_a_lifespan(places: Places) -> None:
    """Opened when it is needed, and closed with the event loop: Starlette's client makes one for each request."""
    app, manager = application(places.new())
    client = TestClient(app)
    for number in (1, 2, 3):
        visit(client, number)
        assert not is_open(manager)


def test_a_request_that_needs_nothing_opens_nothing(store: FaultyStore) -> None:
    """Without the cookie and without a change there is no need."""

    async def nothing(request: Request) -> Response:
        return JSONResponse(len(request.session))

    app, manager = application(store)
    app.router.routes.append(Route("/nothing", nothing))
    client = TestClient(app, cookies={"session": "of another kind"})
    assert client.get("/nothing").json() == 0
    assert not is_open(manager)
    assert store.calls["open"] == 0


def test_mounted_below_another_application(places: Places) -> None:
    """A mounted application hears of no lifespan: its manager stays open from the first need to the end of the loop."""
    inner, manager = application(places.new())
    client = TestClient(Starlette(routes=[Mount("/below", inner)]))
    with client:
        assert not is_open(manager)
        assert [client.get("/below/").json() for _ in range(3)] == [1, 2, 3]
        assert is_open(manager)
    assert not is_open(manager)


def test_an_application_that_opens_it_itself(store: FaultyStore) -> None:
    """The middleware neither opens nor closes it."""
    seen: list[bool] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with manager:
            yield
        # Held by the application until here; from here on it is nobody's.
        seen.append(is_open(manager))

    app, manager = application(store, lifespan)
    with TestClient(app) as client:
        visit(client, 1, 2)
    assert seen == [False]
    assert (store.calls["open"], store.calls["close"]) == (1, 1)


async def test_one_that_somebody_else_opened(store: FaultyStore) -> None:
    """It is left open for them."""
    app, manager = application(store)
    async with manager:
        async with _started(app):
            assert is_open(manager)
        assert is_open(manager)


def test_beside_the_kits_own_lifespan(store: FaultyStore) -> None:
    """`session_lifespan` goes with it."""
    manager = SessionManager(store)
    app = Starlette(
        routes=[Route("/", count)],
        middleware=[Middleware(SessionMiddleware, manager=manager)],
        lifespan=session_lifespan(manager),
    )
    with TestClient(app) as client:
        visit(client, 1, 2)
    assert (store.calls["open"], store.calls["close"]) == (1, 1)


def test_a_store_that_is_away_at_the_start(store: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    """The application starts; what needs a session is answered 503 until the store is there (S-72)."""
    app, _ = application(store)
    store.fail("open")
    store.fail("open", at=2)
    with TestClient(app) as client:
        assert "cannot be reached yet" in caplog.text
        assert client.get("/").status_code == 503
        visit(client, 1, 2)


def test_a_store_that_refuses(store: FaultyStore) -> None:
    """Waiting does not help, so the application does not start."""
    app, manager = application(store)
    store.fail("open", error=StoreRefused("foreign tables"))
    with pytest.raises(StoreRefused, match="foreign tables"), TestClient(app):
        raise AssertionError("it has started")
    assert not is_open(manager)


def test_an_application_that_fails_to_start(store: FaultyStore) -> None:
    """Nothing is opened for it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await _misconfigured()
        yield

    app, _ = application(store, lifespan)
    with pytest.raises(LookupError), TestClient(app):
        raise AssertionError("it has started")
    assert store.calls["open"] == 0


def test_an_application_that_fails_to_stop(store: FaultyStore) -> None:
    """The manager is closed all the same."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        raise LookupError("something is missing")

    app, manager = application(store, lifespan)
    with pytest.raises(LookupError), TestClient(app) as client:
        visit(client, 1)
    assert not is_open(manager)


class SlowToOpen(MemoryStore):
    """A store that opens when it is told how that ends."""

    def __init__(self) -> None:
        super().__init__()
        self.openings = 0
        self.arrived = asyncio.Event()
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`."""
        self.openings += 1
        self.arrived.set()
        await self.outcome
        await super().open(policy, clock)


async def test_many_first_requests() -> None:
    """They wait for one opening, however it ends; the next request tries again."""
    store = SlowToOpen()
    app, manager = application(store)
    async with (
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as client,
        asyncio.TaskGroup() as group,
    ):
        requests = [group.create_task(client.get("/")) for _ in range(10)]
        await store.arrived.wait()
        store.outcome.set_exception(StoreUnavailable("a planned fault"))
        assert {(await each).status_code for each in requests} == {503}
        store.arrived.clear()
        store.outcome = asyncio.get_running_loop().create_future()
        requests = [group.create_task(client.get("/")) for _ in range(10)]
        await store.arrived.wait()
        store.outcome.set_result(None)
        assert {(await each).status_code for each in requests} == {200}
    assert store.openings == 2
    await manager.close()


async def test_a_first_request_that_goes_away(store: FaultyStore) -> None:
    """The others get their manager all the same (F-32)."""
    keeper = LazyManager(SessionManager(store))
    stalled = store.stall("open")
    first, second = asyncio.create_task(keeper.ready()), asyncio.create_task(keeper.ready())
    await stalled.arrived.wait()
    first.cancel()
    await asyncio.wait((first,))
    stalled.release()
    assert is_open(await second)
    await keeper.close()
    await keeper.close()
    assert (store.calls["open"], store.calls["close"]) == (1, 1)


async def test_one_that_somebody_else_closed(store: FaultyStore) -> None:
    """It is opened again when it is needed again."""
    manager = SessionManager(store)
    keeper = LazyManager(manager)
    for _ in range(3):
        assert await keeper.ready() is manager
        assert is_open(manager)
        await manager.close()
    assert store.calls["open"] == 3
    await keeper.close()


def test_the_end_of_a_loop_finishes_what_was_accepted(places: Places) -> None:
    """The task that holds the manager open closes it in its own loop, when that cancels what is left."""
    manager = SessionManager(places.new())
    keeper = LazyManager(manager)
    left: list[asyncio.Task[Any]] = []

    async def use() -> str:
        sessions = await keeper.ready()
        new = await sessions.create_session("u1")
        # Still under way when the loop ends.
        left.append(asyncio.create_task(sessions.validate_session(new.token)))
        await asyncio.sleep(0)
        return new.token

    for _ in range(2):
        token = asyncio.run(use())
        assert not is_open(manager)

    async def look() -> bool:
        async with manager:
            return await manager.get_session(token) is not None

    assert asyncio.run(look())


def test_the_manager_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one handed over it is the process's own, asked for when it is needed: changing the import is enough."""
    app = Starlette(routes=[Route("/", count)], middleware=[Middleware(SessionMiddleware, secret_key="unused")])
    for name in ("DATABASE_URL", "SESSION_DB_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_SQLITE_PATH", str(tmp_path / "sessions.db"))
    monkeypatch.setattr(process_module, "_managers", {})
    client = TestClient(app)
    visit(client, 1, 2)
    with client:
        visit(client, 3)
        assert is_open(get_session_manager())
    assert not is_open(get_session_manager())


@asynccontextmanager
async def _started(app: Starlette) -> AsyncIterator[None]:
    """An application whose lifespan a server has begun, and ends."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, to_app.get, from_app.put))
    to_app.put_nowait({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    yield
    to_app.put_nowait({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await task
