"""`/ws` and `/ws/{session_id}`: sockets that stay open while their session lives, and send back what they are sent.

That is their plain use: a client learns of the end of its session at once, whoever made it. An application puts its
own handler behind the guard instead.
"""

from typing import Any

from starlette.routing import Match, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from holdfast.sockets.guard import SocketGuard


class _Route(WebSocketRoute):
    """A route that the log can name, as FastAPI's own can be."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's, with the route itself in the scope."""
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


def socket_routes(guard: SocketGuard) -> list[WebSocketRoute]:
    """The routes. The path may name the session's own id, under the name that the guard's options give it."""
    guarded: Any = guard(_echo)
    return [_Route(path, guarded) for path in ("/ws", f"/ws/{{{guard.options.id_parameter}}}")]


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        content = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
        await websocket.send({"type": "websocket.send", **content})
