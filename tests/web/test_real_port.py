"""Both middlewares behind a real port: uvicorn, HTTP and WebSockets, with clients that know nothing of ASGI."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from holdfast import SessionManager
from holdfast.memory import MemoryStore
from holdfast.testing import FaultyStore
from holdfast.web.cookies import CookieOptions
from holdfast.web.errors import NoSession
from holdfast.web.lifespan import session_lifespan
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.origins import Origins
from holdfast.web.session_middleware import SessionMiddleware
from holdfast.web.visitor import Visitor
from tests.support.ports import LOOPBACK
from tests.web.serving import listening
from tests.web.site import OWN_PAGE, ROUTES

ORIGIN = "https://app.example.com"


class Client:
    """A browser on a port: one jar of cookies for its requests and its sockets."""

    def __init__(self, http: httpx2.AsyncClient, port: int) -> None:
        self.http = http
        self._port = port

    def connect(self, origin: str = ORIGIN) -> connect:
        """A socket that a page of this origin opens."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        headers = {"Cookie": cookies} if cookies else {}
        return connect(
            f"ws://{LOOPBACK}:{self._port}/socket", origin=Origin(origin), additional_headers=headers, proxy=None
        )


@asynccontextmanager
async def browsing(app: ASGIApp) -> AsyncIterator[Client]:
    """A browser on the application behind a port."""
    async with (
        listening(app, sockets=True) as port,
        httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", headers=OWN_PAGE, trust_env=False) as http,
    ):
        yield Client(http, port)


async def told(socket: ClientConnection) -> Any:
    """What the application sends next."""
    return json.loads(await socket.recv())


# `request.session`


async def _put(request: Request) -> Response:
    request.session.update(request.query_params)
    return JSONResponse(request.session)


async def _clear(request: Request) -> Response:
    request.session.clear()
    return JSONResponse(request.session)


async def _count(websocket: WebSocket) -> None:
    websocket.session["sockets"] = websocket.session.get("sockets", 0) + 1
    await websocket.accept()
    await websocket.send_json(websocket.session)
    async for text in websocket.iter_text():
        websocket.session["said"] = text
        await websocket.close()


def dict_site(store: FaultyStore) -> Starlette:
    """An application with the drop-in, which opens the manager by the lifespan."""
    manager = SessionManager(store, sweep_interval=None)
    return Starlette(
        routes=[
            Route("/put", _put, methods=["POST"]),
            Route("/clear", _clear, methods=["POST"]),
            WebSocketRoute("/socket", _count),
        ],
        middleware=[Middleware(SessionMiddleware, manager=manager, origins=Origins([ORIGIN]))],
    )


async def test_request_session_behind_a_port() -> None:
    """Requests and sockets of one browser share a session: read at the handshake, saved there and at the close."""
    async with browsing(dict_site(FaultyStore(MemoryStore()))) as client:
        assert (await client.http.post("/put", params={"cart": "tea"})).json() == {"cart": "tea"}
        token = client.http.cookies["session"]
        async with client.connect() as socket:
            assert await told(socket) == {"cart": "tea", "sockets": 1}
            assert socket.response is not None
            assert socket.response.headers["set-cookie"].startswith(f"session={token};")
            await socket.send("hello")
            await socket.wait_closed()
        kept = {"cart": "tea", "sockets": 1, "said": "hello"}
        assert (await client.http.post("/put")).json() == kept
        async with client.connect("https://evil.example") as socket:
            assert await told(socket) == {"sockets": 1}
        assert (await client.http.post("/clear")).json() == {}
        assert "session" not in client.http.cookies
        assert (await client.http.post("/put", headers={"Cookie": f"session={token}"})).json() == {}


async def test_request_session_when_the_store_is_away() -> None:
    """S-72: request and handshake get a 503, and the browser keeps its cookie, which works again afterwards."""
    store = FaultyStore(MemoryStore())
    async with browsing(dict_site(store)) as client:
        await client.http.post("/put", params={"cart": "tea"})
        store.fail("touch")
        assert (await client.http.post("/put")).status_code == 503
        store.fail("touch")
        with pytest.raises(InvalidStatus) as refused:
            await client.connect()
        assert refused.value.response.status_code == 503
        assert (await client.http.post("/put")).json() == {"cart": "tea"}


# The visitor


async def _show(websocket: WebSocket) -> None:
    session = await Visitor.of(websocket).session()
    if session is None:
        raise NoSession
    await websocket.accept()
    await websocket.send_json(session.user_id)
    await websocket.close()


async def test_the_visitor_behind_a_port() -> None:
    """From log-in to log-out; a socket is opened by the cookie, from a page on the list, while it is live (S-37)."""
    store = FaultyStore(MemoryStore())
    manager = SessionManager(store, sweep_interval=None)
    cookie, origins = CookieOptions.development(), Origins([ORIGIN])
    app = Starlette(
        routes=[*ROUTES, WebSocketRoute("/socket", _show)],
        middleware=[Middleware(HoldfastMiddleware, manager=manager, cookie=cookie, origins=origins)],
        lifespan=session_lifespan(manager),
    )

    async def refused(client: Client, origin: str = ORIGIN) -> int:
        with pytest.raises(InvalidStatus) as refusal:
            await client.connect(origin)
        return int(refusal.value.response.status_code)

    async with browsing(app) as client:
        assert (await client.http.get("/me")).status_code == 401
        assert await refused(client) == 401
        assert (await client.http.post("/log-in", params={"user": "u1"})).status_code == 200
        assert (await client.http.get("/me")).json()["user"] == "u1"
        async with client.connect() as socket:
            assert await told(socket) == "u1"
        assert await refused(client, "https://evil.example") == 401
        store.fail("touch")
        assert await refused(client) == 503
        before = dict(client.http.cookies)
        assert (await client.http.post("/log-out")).json() == {"ended": True}
        client.http.cookies.update(before)
        assert await refused(client) == 401
