"""A FastAPI application with guarded sockets on a real port, over a store that can fail and a clock that is moved."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest
import uvicorn
from fastapi import Depends, FastAPI
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from holdfast import Session, SessionManager
from holdfast.memory import MemoryStore
from holdfast.sockets import socket_session
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.guard_options import GuardOptions
from holdfast.testing import FaultyStore, MovableClock
from holdfast.web.cookies import CookieOptions
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.origins import Origins
from tests.support.polling import eventually

ORIGIN = "https://app.example.com"
COOKIE = CookieOptions()
ALLOWED = Origins([ORIGIN])

Handler = Callable[[WebSocket], Awaitable[None]]


class _Server(uvicorn.Server):
    """uvicorn's server in a loop that has other things to do, and signals of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp, **options: Any) -> AsyncIterator[int]:
    """The port of an application on a real uvicorn in this loop, until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    settings: dict[str, Any] = {
        "ws": "websockets-sansio",
        "ws_per_message_deflate": False,
        "ws_max_size": 1_048_576,
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "timeout_graceful_shutdown": 5,
    }
    server = _Server(uvicorn.Config(app, **{**settings, **options}))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await eventually(lambda: server.started, what="uvicorn serves")
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()


class Counts:
    """What the guard told its observer."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.closed: list[int] = []

    def handshake_refused(self, reason: str) -> None:
        """Note it."""
        self.refused.append(reason)

    def socket_closed(self, code: int) -> None:
        """Note it."""
        self.closed.append(code)


class Site:
    """The application and everything behind it."""

    def __init__(self, manager: SessionManager, store: FaultyStore, clock: MovableClock, guard: SocketGuard) -> None:
        self.manager = manager
        self.store = store
        self.clock = clock
        self.guard = guard
        self.counts = Counts()
        self.app = FastAPI()
        self.passed: list[Any] = []
        """Every message that the echo saw, in order."""
        self.port = 0
        self.echo("/ws")
        self.echo("/ws/{session_id}")

    def echo(self, path: str) -> None:
        """Add a guarded echo."""

        async def echo(websocket: WebSocket, session: Annotated[Session, Depends(socket_session)]) -> None:
            await websocket.accept(next(iter(websocket.scope["subprotocols"]), None))
            async for text in websocket.iter_text():
                self.passed.append(text)
                await websocket.send_text(f"{session.id} {text}")

        self.app.add_api_websocket_route(path, echo)

    def handle(self, path: str, handler: Handler) -> None:
        """Add a guarded route of a test's own; the handler accepts."""

        async def guarded(websocket: WebSocket, _: Annotated[Session, Depends(socket_session)]) -> None:
            await handler(websocket)

        self.app.add_api_websocket_route(path, guarded)

    def connect(
        self,
        path: str = "/ws",
        *,
        token: str | None = None,
        cookie: str | None = None,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """A client of this site. A token goes into the header; `cookie` is one too, and comes with the right origin."""
        sent = list(headers.items() if isinstance(headers, dict) else headers or [])
        if token is not None:
            sent.append(("Authorization", f"Bearer {token}"))
        if cookie is not None:
            sent.append(("Cookie", f"{COOKIE.name}={cookie}"))
            if not any(name.lower() == "origin" for name, _ in sent):
                sent.append(("Origin", ORIGIN))
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=sent,
            **{"open_timeout": 30, "proxy": None, **options},
        )


@asynccontextmanager
async def site(
    options: GuardOptions | None = None,
    *,
    server: dict[str, Any] | None = None,
    prepare: Callable[[Site], None] = lambda _: None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """A site that serves; `prepare` adds routes to it before it does."""
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    manager = SessionManager(store, sweep_interval=None, clock=clock, **settings)
    counts = Counts()
    guard = SocketGuard(manager, options or GuardOptions(origins=ALLOWED), counts)
    made = Site(manager, store, clock, guard)
    made.counts = counts
    made.app.add_middleware(HoldfastMiddleware, manager=manager, origins=ALLOWED, sockets=guard)
    prepare(made)
    async with manager, serving(made.app, **(server or {})) as port:
        made.port = port
        yield made


async def ending(client: ClientConnection) -> tuple[int | None, str, list[str | bytes]]:
    """Read until the close: its code, its reason, and what came before it."""
    received: list[str | bytes] = []
    try:
        async with asyncio.timeout(30):
            while True:
                received.append(await client.recv())
    except ConnectionClosed:
        return client.close_code, client.close_reason or "", received


async def refusal(opening: AbstractAsyncContextManager[ClientConnection]) -> Response:
    """The HTTP answer to a handshake that must be refused."""
    with pytest.raises(InvalidStatus) as caught:
        await opening.__aenter__()
    return caught.value.response


async def nothing_left(served: Site) -> None:
    """Wait until no socket is left here, and no session is attached."""
    await eventually(
        lambda: served.guard.open_sockets == 0 and len(served.manager.watches) == 0, what="nothing is left"
    )
