"""The chat, wired: an application with the web kit around it, mounted into the ready-made server's own."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response

from examples.chat.devices import device_of
from examples.chat.pages import show_file, show_page
from examples.chat.room import Member, Room
from holdfast import Session, SessionManager
from holdfast.server.app import create_app, guard_options_of, session_cookie_of
from holdfast.settings import Settings
from holdfast.sockets import SocketGuard, client_route, socket_session
from holdfast.web import HoldfastMiddleware, Visitor
from holdfast.web.dependencies import current_session, optional_session, visitor

WARN_SECONDS = 60
LONGEST_NAME = 40

MaybeSession = Annotated[Session | None, Depends(optional_session)]
CurrentSession = Annotated[Session, Depends(current_session)]
SocketSession = Annotated[Session, Depends(socket_session)]
Asking = Annotated[Visitor, Depends(visitor)]


class LogIn(BaseModel):
    """Who somebody says to be. A real application would ask for a proof."""

    name: str


class Said(BaseModel):
    """What a member sends."""

    text: str = Field(min_length=1, max_length=2000)


def create_chat(settings: Settings) -> FastAPI:
    """The server's application with the chat at `/`. Cookie and allowed origins are those of the settings."""
    manager = settings.manager()
    options = replace(
        guard_options_of(settings),
        # A page cannot read the status of a refused handshake, but it can read a close code.
        browser_codes=True,
        warn_before=min(WARN_SECONDS, settings.session_ttl_hours * 3600 / 4),
        allow_extend=True,
        extend_hours=settings.session_ttl_hours,
    )
    guard = SocketGuard(manager, options)
    cookie = session_cookie_of(settings)
    chat = FastAPI(openapi_url=None)
    chat.include_router(_routes(manager, Room(), secure=cookie.secure))
    chat.add_middleware(HoldfastMiddleware, manager=manager, cookie=cookie, origins=options.origins, sockets=guard)
    app = create_app(settings, manager)
    # The server has a guard already. When it stops, it closes the sockets of both in order.
    app.state.guards.append(guard)
    app.add_api_route("/", show_page, methods=["GET", "HEAD"], include_in_schema=False)
    app.router.routes.append(client_route())
    app.mount("/chat", chat)
    return app


def _routes(manager: SessionManager, room: Room, *, secure: bool) -> APIRouter:
    router = APIRouter()
    router.add_api_route("/{name}.{kind}", show_file, response_model=None)

    @router.post("/log-in", response_model=None)
    async def log_in(body: LogIn, request: Request, asking: Asking) -> Response:
        name = body.name.strip()
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            sentence = f"A name has 1 to {LONGEST_NAME} characters, all of which can be seen."
            return JSONResponse({"error": "invalid", "message": sentence}, 422)
        await asking.log_in(name, device_of(request.headers.get("user-agent", "")))
        return Response(status_code=204)

    @router.post("/log-out", status_code=204)
    async def log_out(asking: Asking) -> None:
        await asking.log_out()

    @router.get("/me")
    async def show_me(session: MaybeSession) -> dict[str, Any] | None:
        if session is None:
            return None
        return {
            "name": session.user_id,
            "expires_at": session.expires_at.isoformat(),
            # The database's clock just said when this request was: the browser's need not agree with it.
            "seconds_left": (session.expires_at - session.last_activity).total_seconds(),
            "lifetime": (session.expires_at - session.created_at).total_seconds(),
            "may_extend": True,
            "secure": secure,
        }

    @router.get("/devices")
    async def list_devices(session: CurrentSession) -> dict[str, Any]:
        mine = await manager.list_sessions(session.user_id)
        shown = [
            {
                "id": each.id,
                "name": each.metadata.get("device", "A program"),
                "kind": each.metadata.get("kind", "computer"),
                "seconds_ago": (session.last_activity - each.created_at).total_seconds(),
                "this_one": each.id == session.id,
            }
            for each in mine
        ]
        return {"devices": sorted(shown, key=lambda device: not device["this_one"])}

    @router.delete("/devices")
    async def end_others(session: CurrentSession) -> dict[str, int]:
        return {"ended": await manager.revoke_user_sessions(str(session.user_id), keep=session.id)}

    @router.delete("/devices/{id}", status_code=204)
    async def end_device(id: str, session: CurrentSession) -> None:
        found = await manager.get_by_id(id)
        # Somebody else's session looks exactly like one that does not exist.
        if found is None or found.user_id != session.user_id:
            raise HTTPException(404)
        await manager.end_session(id)

    @router.websocket("/room")
    async def enter(socket: WebSocket, session: SocketSession) -> None:
        await socket.accept()
        name = str(session.user_id)
        with room.member(name) as member:
            async with asyncio.TaskGroup() as both:
                writing = both.create_task(_write(socket, member))
                await _read(socket, room, name)
                writing.cancel()

    return router


async def _read(socket: WebSocket, room: Room, name: str) -> None:
    """Take in what a member says, until it leaves, or its session is over and the guard closes the socket."""
    async for text in socket.iter_text():
        try:
            said = Said.model_validate_json(text)
        except ValidationError:
            await socket.close(1007, "refused")
            return
        room.say(name, said.text)


async def _write(socket: WebSocket, member: Member) -> None:
    """Write to a member's client what it is told."""
    # Closed: the reading side hears of it as well, and ends both.
    with suppress(WebSocketDisconnect):
        while True:
            await socket.send_text(await member.frames.get())
