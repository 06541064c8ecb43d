"""The guard around plain ASGI applications, and what a server writes to its log about guarded sockets."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from holdfast import SessionManager
from holdfast.memory import MemoryStore
from holdfast.sessions.session import End
from holdfast.sockets.connection import remember_connection
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.guarded_socket import GuardedSocket, SocketClosed
from tests.security.test_canary import holds
from tests.sockets.guard.site import ALLOWED, ORIGIN, ending, serving
from tests.support.polling import eventually


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """An application without any framework."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{GuardedSocket.of(scope).session!r:.8} {message['text']}"})


async def whoever(websocket: WebSocket) -> None:
    """A Starlette endpoint that names its session."""
    await websocket.accept()
    session = GuardedSocket.of(websocket.scope).session
    assert session is not None
    async for text in websocket.iter_text():
        await websocket.send_text(f"{session.user_id} {text}")


@asynccontextmanager
async def guarded(app: ASGIApp, options: GuardOptions | None = None) -> AsyncIterator[tuple[SessionManager, str]]:
    """A manager, and the address of an application behind its guard."""
    async with SessionManager(MemoryStore(), sweep_interval=None) as manager:
        guard = SocketGuard(manager, options or GuardOptions(origins=ALLOWED))
        mounted = Starlette(
            routes=[
                WebSocketRoute("/own/{session_id}", guard(Starlette(routes=[WebSocketRoute("/{any:path}", whoever)]))),
                Mount("/mounted/{session_id}", guard(app)),
            ]
        )
        async with serving(mounted) as port:
            yield manager, f"ws://127.0.0.1:{port}"


def presenting(token: str) -> dict[str, Any]:
    """The arguments of a client with a token."""
    return {"additional_headers": {"Authorization": f"Bearer {token}"}, "proxy": None}


async def test_any_asgi_application_can_be_guarded() -> None:
    """Starlette's routes and mounts, and an application without a framework: admitted before they are called."""
    async with guarded(bare) as (manager, address):
        new, other = await manager.create_session("u1"), await manager.create_session("u1")
        async with connect(f"{address}/mounted/{new.id}/x", **presenting(new.token)) as client:
            await client.send("hello")
            assert await client.recv() == "Session( hello"
            await manager.end_session(new.id)
            assert await ending(client) == (4403, "revoked", [])
        for path in (f"/mounted/{new.id}/x", f"/own/{new.id}"):
            with pytest.raises(InvalidStatus) as caught:
                await connect(address + path, **presenting(other.token)).__aenter__()
            assert caught.value.response.status_code == 403


async def test_a_server_that_knows_no_denial_gets_a_plain_close() -> None:
    """S-38: without the extension for HTTP answers the handshake is closed, which every ASGI server understands."""

    def without_extension(app: ASGIApp) -> ASGIApp:
        async def stripped(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": None}, receive, send)

        return stripped

    async with SessionManager(MemoryStore(), sweep_interval=None) as manager:
        app = without_extension(SocketGuard(manager)(bare))
        async with serving(app) as port:
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{port}/", proxy=None).__aenter__()
            assert caught.value.response.status_code == 403


async def test_a_connection_that_cannot_be_dropped_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """S-47: behind a middleware that hides the server's `send` the guard cannot cut anybody off, and says so."""

    def hiding(app: ASGIApp, *, remembers: bool) -> ASGIApp:
        async def hidden(scope: Scope, receive: Receive, send: Send) -> None:
            async def wrapped(message: Message) -> None:
                await send(message)

            if remembers:
                remember_connection(scope, send)
            await app(scope, receive, wrapped)

        return hidden

    for remembers, times in ((False, 1), (True, 0)):
        caplog.clear()
        async with SessionManager(MemoryStore(), sweep_interval=None) as manager:
            new = await manager.create_session("u1")
            async with serving(hiding(SocketGuard(manager)(bare), remembers=remembers)) as port:
                for _ in range(3):
                    async with connect(f"ws://127.0.0.1:{port}/", **presenting(new.token)):
                        pass
        said = [record for record in caplog.records if "no way to drop a connection" in record.getMessage()]
        assert len(said) == times


async def test_calls_that_are_no_sockets_pass_through() -> None:
    """HTTP and lifespan calls are none of the guard's business."""
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> dict[str, Any]:
        return {}

    async def nowhere(_: Any) -> None:
        return

    async with SessionManager(MemoryStore(), sweep_interval=None) as manager:
        for kind in ("http", "lifespan"):
            await SocketGuard(manager)(app)({"type": kind}, nothing, nowhere)
    assert seen == ["http", "lifespan"]


async def test_uvicorns_own_log_names_no_token(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-39, S-10: uvicorn writes the address of every handshake; what was secret in it is gone by then."""
    caplog.set_level(logging.INFO)
    # A server that ran in this process before may have silenced them.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        caplog.set_level(logging.INFO, name)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    options = GuardOptions(origins=ALLOWED, allow_token_in_url=True)
    async with guarded(bare, options) as (manager, address):
        new = await manager.create_session("u1")
        tickets = [await manager.create_ticket(new.token, origin) for origin in (ORIGIN, None)]
        shown = [new.token, *(ticket[0] for ticket in tickets if ticket is not None)]
        async with connect(f"{address}/own/{new.id}?room=7&ticket={shown[1]}", origin=ORIGIN, proxy=None):  # type: ignore[arg-type]  # a string is one
            pass
        async with connect(f"{address}/own/{new.token}?%74icket={shown[2]}", proxy=None):
            pass
        for path in (f"/own/{new.id}?ticket={shown[2]}x", f"/own/{new.id}?token={new.token}", "/own/session-0815"):
            with pytest.raises(InvalidStatus):
                await connect(address + path, proxy=None).__aenter__()
    lines = [record.getMessage() for record in caplog.records if "WebSocket /" in record.getMessage()]
    assert len(lines) == 5
    assert holds(caplog.text.encode(), shown) == []
    assert "session-0815" not in caplog.text
    # What is no secret stays.
    assert any("room=7" in line for line in lines)


async def test_an_end_that_is_known_counts_before_anybody_was_told() -> None:
    """S-44: in the very step in which this process learns of the end, nothing is sent and nothing is passed on."""
    sent: list[str] = []
    outcomes: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        session = GuardedSocket.of(scope).session
        assert session is not None
        # The store is asked first, or the end would be found out by the look that follows every attachment.
        await eventually(lambda: len(manager.watches) == 1, what="it is attached")
        manager.watches.over([End(session.id, session.user_id, "revoked", session.expires_at)])
        with pytest.raises(SocketClosed):
            await send({"type": "websocket.send", "text": "too late"})
        outcomes.append(await receive())

    async def receiving() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def sending(message: Any) -> None:
        sent.append(message["type"])

    async with SessionManager(MemoryStore(), sweep_interval=None) as manager:
        new = await manager.create_session("u1")
        headers = [(b"authorization", f"Bearer {new.token}".encode())]
        scope = {"type": "websocket", "path": "/", "headers": headers, "client": None}
        await SocketGuard(manager)(app)(scope, receiving, sending)
    assert sent == ["websocket.accept", "websocket.close"]
    assert outcomes == [{"type": "websocket.disconnect", "code": 4403, "reason": "revoked"}]
