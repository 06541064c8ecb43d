"""An application that does with `request.session` what a request asks for, over a store that can fail."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from holdfast import Session, SessionManager, StoreOptions
from holdfast.memory import MemoryStore
from holdfast.sessions.store import Store
from holdfast.sql.stores import store_at
from holdfast.testing import FaultyStore, MovableClock
from holdfast.web.session_dict import SessionDict
from holdfast.web.session_middleware import SessionMiddleware

BASE: Final = "https://app.example.com"
COOKIE: Final = "session"
NAVIGATION: Final = {"Sec-Fetch-Mode": "navigate"}
SCRIPT: Final = {"Sec-Fetch-Mode": "cors"}

KINDS: Final = ["memory", "sqlite"]
ALL_KINDS: Final = [*KINDS, "postgresql"]

# A race is about order, not about speed: on a loaded machine nothing may run into a deadline.
_OPTIONS: Final = StoreOptions(deadline=30.0, connections=8)


class Places:
    """Stores of one kind on one place: `new()` is another server's."""

    def __init__(
        self, kind: str, request: pytest.FixtureRequest, folder: Path, options: StoreOptions = _OPTIONS
    ) -> None:
        self.kind = kind
        self._options = options
        self._memory = MemoryStore()
        self._address = ""
        if kind == "sqlite":
            self._address = f"sqlite:///{folder / 'sessions.db'}"
        elif kind == "postgresql":
            self._address = request.getfixturevalue("migrated_database")(18)

    def new(self) -> Store:
        """A store on the place, not open. In memory there is one only, which closing does not empty."""
        return self._memory if self.kind == "memory" else store_at(self._address, self._options)


class Gate:
    """Where a request waits inside the application."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.opened = asyncio.Event()
        self.waiting = 0
        self._expected: tuple[int, asyncio.Event] | None = None

    async def pass_through(self) -> None:
        self.waiting += 1
        self.arrived.set()
        if self._expected is not None and self.waiting >= self._expected[0]:
            self._expected[1].set()
        await self.opened.wait()

    async def until_waiting(self, requests: int) -> None:
        """Wait until so many requests stand here."""
        self._expected = (requests, asyncio.Event())
        if self.waiting >= requests:
            return
        await self._expected[1].wait()


class Browser:
    """A client with a cookie jar, that asks the application to do things with its session."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def do(self, *steps: list[Any], headers: dict[str, str] | None = None) -> httpx2.Response:
        """One request: its steps, in order. Without a step the application does not look at the session."""
        return await self.client.post("/do", json=list(steps), headers=headers)

    async def read(self) -> dict[str, Any]:
        """What the session holds for the next request."""
        answer = await self.do(["read"])
        assert answer.status_code == 200, answer.text
        values: dict[str, Any] = answer.json()
        return values

    @property
    def token(self) -> str | None:
        """What the browser's cookie holds."""
        return self.client.cookies.get(COOKIE)

    @token.setter
    def token(self, value: str) -> None:
        self.client.cookies.clear()
        self.client.cookies.set(COOKIE, value, domain="app.example.com")


class Keeping:
    """The application on one server."""

    def __init__(self, store: FaultyStore, manager: SessionManager, clock: MovableClock, app: Starlette) -> None:
        self.store = store
        self.manager = manager
        self.clock = clock
        self.app = app
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)
        self.values: dict[str, Any] = {}
        """Python objects that a step puts into the session by their name here."""
        self.seen: list[SessionDict] = []
        """The sessions of the requests so far."""
        self.ran = 0
        """How many requests reached the application."""

    def browser(self, cookie_of: Browser | None = None, *, base: str = BASE, raises: bool = True) -> Browser:
        """A new browser, or a second one with the cookie of another."""
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=raises)
        browser = Browser(httpx2.AsyncClient(transport=transport, base_url=base))
        if cookie_of is not None and cookie_of.token is not None:
            browser.token = cookie_of.token
        return browser

    @property
    def calls(self) -> int:
        """How many calls the store has had, opening and closing aside."""
        return sum(count for name, count in self.store.calls.items() if name not in ("open", "close", "ping"))

    async def session(self, browser: Browser) -> Session | None:
        """The session behind a browser's cookie, untouched."""
        return None if browser.token is None else await self.manager.get_session(browser.token)

    async def live(self) -> list[Session]:
        """Every live session, oldest first."""
        return await self.manager.list_sessions(limit=1000)

    async def run(self, request: Request) -> Response:
        """The one route: do the steps in the body."""
        self.ran += 1
        steps = await request.json()
        session: Any = request.session if steps else None
        for name, *arguments in steps:
            await self.step(session, name, arguments)
        if isinstance(session, SessionDict):
            self.seen.append(session)
        # What was put in may be no JSON.
        shown = {} if session is None or any(name == "put" for name, *_ in steps) else dict(session)
        return JSONResponse(shown)

    async def step(self, session: Any, name: str, arguments: list[Any]) -> None:
        """One thing to do with a session: a method of the dict, or what has a name here."""
        match name:
            case "read":
                pass
            case "set":
                session[arguments[0]] = arguments[1]
            case "put":
                session[arguments[0]] = self.values[arguments[1]]
            case "del":
                del session[arguments[0]]
            case "append":
                session[arguments[0]].append(arguments[1])
            case "increment":
                session[arguments[0]] = session.get(arguments[0], 0) + 1
            case "ior":
                session |= arguments[0]
            case "hold":
                await self.gates[arguments[0]].pass_through()
            case "refuse":
                raise HTTPException(arguments[0])
            case "crash":
                raise LookupError("the application has a fault")
            case _:
                getattr(session, name)(*arguments)


@asynccontextmanager
async def keeping(
    places: Places,
    *more: BaseRoute,
    policy: dict[str, Any] | None = None,
    clock: MovableClock | None = None,
    inside: tuple[Middleware, ...] = (),
    handlers: dict[Any, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Keeping]:
    """A server of the application on a place, its manager open, its middleware with these options."""
    store, time = FaultyStore(places.new()), clock or MovableClock()
    manager = SessionManager(store, clock=time, sweep_interval=None, **(policy or {}))
    middleware = [Middleware(SessionMiddleware, manager=manager, **options), *inside]
    app = Starlette(middleware=middleware, exception_handlers=handlers)
    site = Keeping(store, manager, time, app)
    app.router.routes.extend([Route("/do", site.run, methods=["POST"]), *more])
    async with manager:
        yield site
