"""One small application in four frameworks, over a store that can fail, and a client that keeps cookies."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Final

import httpx2
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast import HoldfastError, Session, SessionManager
from holdfast.memory import MemoryStore
from holdfast.testing import FaultyStore, MovableClock
from holdfast.web.cookies import DEFAULT_NAME
from holdfast.web.dependencies import current_session, optional_session, visitor
from holdfast.web.errors import NoSession
from holdfast.web.lifespan import session_lifespan
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.visitor import Visitor

OWN_PAGE: Final = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
"""What a browser sends with a request that a script of the application's own page makes."""
LINK: Final = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
"""What a browser sends with an address that its user typed."""
BASE: Final = "https://app.test"

Builder = Callable[..., ASGIApp]


def shown(session: Session | None) -> dict[str, Any]:
    """What the application tells of a session."""
    return {} if session is None else {"user": session.user_id, "count": session.request_count, "id": session.id}


# Starlette


async def _me(request: Request) -> Response:
    session = await Visitor.of(request).session()
    if session is None:
        raise NoSession
    return JSONResponse(shown(session))


async def _maybe(request: Request) -> Response:
    asking = Visitor.of(request)
    await asking.session()
    return JSONResponse(shown(await asking.session()))


async def _log_in(request: Request) -> Response:
    new = await Visitor.of(request).log_in(request.query_params["user"])
    return JSONResponse({"id": new.id, "token": new.token})


async def _log_out(request: Request) -> Response:
    return JSONResponse({"ended": await Visitor.of(request).log_out()})


async def _rotate(request: Request) -> Response:
    return JSONResponse({"rotated": await Visitor.of(request).rotate() is not None})


async def _plain(_: Request) -> Response:
    return PlainTextResponse("nobody asked")


ROUTES: Final = [
    Route("/me", _me, methods=["GET", "POST"]),
    Route("/maybe", _maybe),
    Route("/log-in", _log_in, methods=["GET", "POST"]),
    Route("/log-out", _log_out, methods=["GET", "POST"]),
    Route("/rotate", _rotate, methods=["GET", "POST"]),
    Route("/plain", _plain, methods=["GET", "POST"]),
]


def starlette_site(manager: SessionManager, *more: Route, **options: Any) -> Starlette:
    """The application in Starlette."""
    return Starlette(
        routes=[*ROUTES, *more],
        middleware=[Middleware(HoldfastMiddleware, manager=manager, **options)],
        lifespan=session_lifespan(manager),
    )


# FastAPI

Asking = Annotated[Visitor, Depends(visitor)]


def fastapi_site(manager: SessionManager, **options: Any) -> FastAPI:
    """The application in FastAPI, by its dependencies."""
    app = FastAPI(lifespan=session_lifespan(manager))
    app.add_middleware(HoldfastMiddleware, manager=manager, **options)

    @app.get("/me")
    @app.post("/me")
    async def me(session: Annotated[Session, Depends(current_session)]) -> dict[str, Any]:
        return shown(session)

    @app.get("/maybe")
    async def maybe(session: Annotated[Session | None, Depends(optional_session)], asking: Asking) -> dict[str, Any]:
        assert await asking.session() is session
        return shown(session)

    @app.get("/log-in")
    @app.post("/log-in")
    async def log_in(user: str, asking: Asking) -> dict[str, str]:
        new = await asking.log_in(user)
        return {"id": new.id, "token": new.token}

    @app.get("/log-out")
    @app.post("/log-out")
    async def log_out(asking: Asking) -> dict[str, bool]:
        return {"ended": await asking.log_out()}

    @app.get("/rotate")
    @app.post("/rotate")
    async def rotate(asking: Asking) -> dict[str, bool]:
        return {"rotated": await asking.rotate() is not None}

    @app.get("/plain")
    @app.post("/plain")
    async def plain() -> str:
        return "nobody asked"

    return app


# Litestar


def litestar_site(manager: SessionManager, **options: Any) -> ASGIApp:
    """The application in Litestar, which knows nothing of Holdfast: the middleware goes around it."""
    import litestar
    from litestar.handlers import route

    def let_through(_: Any, error: Exception) -> Any:
        raise error

    def of(request: Any) -> Visitor:
        return Visitor.of(request.scope)

    @route("/me", http_method=["GET", "POST"], status_code=200)
    async def me(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        session = await of(request).session()
        if session is None:
            raise NoSession
        return shown(session)

    @route("/maybe", http_method=["GET"])
    async def maybe(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        await of(request).session()
        return shown(await of(request).session())

    @route("/log-in", http_method=["GET", "POST"], status_code=200)
    async def log_in(request: litestar.Request[Any, Any, Any]) -> dict[str, str]:
        new = await of(request).log_in(request.query_params["user"])
        return {"id": new.id, "token": new.token}

    @route("/log-out", http_method=["GET", "POST"], status_code=200)
    async def log_out(request: litestar.Request[Any, Any, Any]) -> dict[str, bool]:
        return {"ended": await of(request).log_out()}

    @route("/rotate", http_method=["GET", "POST"], status_code=200)
    async def rotate(request: litestar.Request[Any, Any, Any]) -> dict[str, bool]:
        return {"rotated": await of(request).rotate() is not None}

    @route("/plain", http_method=["GET", "POST"], status_code=200)
    async def plain() -> str:
        return "nobody asked"

    app = litestar.Litestar(
        [me, maybe, log_in, log_out, rotate, plain],
        lifespan=[session_lifespan(manager)],
        exception_handlers={HoldfastError: let_through},
        openapi_config=None,
        logging_config=None,
    )
    # The two type packages describe one protocol in two ways.
    inner: Any = app
    return HoldfastMiddleware(inner, manager, **options)


# Mounted


def mounted_site(manager: SessionManager, **options: Any) -> ASGIApp:
    """The Starlette application, whole, under a prefix of another one that opens the manager for it."""
    inner = Starlette(routes=ROUTES, middleware=[Middleware(HoldfastMiddleware, manager=manager, **options)])
    outer = Starlette(routes=[Mount("/under/it", inner)], lifespan=session_lifespan(manager))

    async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": f"/under/it{scope['path']}"}
        await outer(scope, receive, send)

    return prefixed


BUILDERS: Final[dict[str, Builder]] = {
    "starlette": starlette_site,
    "fastapi": fastapi_site,
    "litestar": litestar_site,
    "mounted": mounted_site,
}


class Site:
    """A running application, its store and its clock, and a browser on it."""

    def __init__(self, app: ASGIApp, manager: SessionManager, store: FaultyStore, clock: MovableClock) -> None:
        self.app = app
        self.manager = manager
        self.store = store
        self.clock = clock
        self.browser = self.new_browser()

    def new_browser(self, **headers: str) -> httpx2.AsyncClient:
        """A client with cookies of its own, whose requests come from the application's own page."""
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers or OWN_PAGE)

    @property
    def calls(self) -> int:
        """How many calls the store has had, opening and probing aside."""
        return sum(count for name, count in self.store.calls.items() if name not in ("open", "close", "ping"))

    @property
    def token(self) -> str | None:
        """The token in the browser's cookie."""
        return self.browser.cookies.get(DEFAULT_NAME)

    async def log_in(self, user: str = "u1") -> str:
        """Log the browser in; the session's id."""
        answer = await self.browser.post("/log-in", params={"user": user})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def who(self) -> str | None:
        """Whose session the browser's cookie opens; `None` for nobody's."""
        answer = await self.browser.get("/maybe")
        assert answer.status_code == 200, answer.text
        user: str | None = answer.json().get("user")
        return user


@asynccontextmanager
async def running(
    build: Builder = starlette_site,
    *more: Any,
    store: FaultyStore | None = None,
    policy: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    """A site whose middleware has these options, its manager open."""
    faulty, clock = store or FaultyStore(MemoryStore()), MovableClock()
    manager = SessionManager(faulty, clock=clock, sweep_interval=None, **(policy or {}))
    async with AsyncExitStack() as stack:
        # The lifespan is tried by itself: a transport runs none.
        await stack.enter_async_context(manager)
        site = Site(build(manager, *more, **options), manager, faulty, clock)
        await stack.enter_async_context(site.browser)
        yield site


def streamed(action: Callable[[Visitor], Awaitable[Any]]) -> Route:
    """A route that begins its answer and then does something with the visitor; it streams what came of it."""

    async def stream(request: Request) -> Response:
        asking = Visitor.of(request)

        async def parts() -> AsyncIterator[bytes]:
            yield b"began; "
            try:
                await action(asking)
                yield b"done"
            except RuntimeError as error:
                yield str(error).encode()

        return StreamingResponse(parts())

    return Route("/stream", stream, methods=["GET", "POST"])
