"""What surrounds every request: its log line and numbers, its security headers, and the last resort."""

import logging
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.server.metrics import Metrics
from holdfast.sockets.guarded_socket import SOCKET_KEY
from holdfast.web.responses import error_answer

log = logging.getLogger("holdfast.access")
faults = logging.getLogger("holdfast.server")

UNMATCHED: Final = "unmatched"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
# The client went away before there was an answer; the number is nginx's.
_NO_ANSWER: Final = 499
# What the server beneath makes of these, as a status.
_HANDSHAKE: Final = {"websocket.accept": 101, "websocket.close": 403}


class Access:
    """ASGI middleware: one log line and one count for each request, under the route's template.

    Never the path or the query as they were sent: they may hold a secret that was put in the wrong place.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Put it around everything that answers."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it went."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NO_ANSWER
        began = time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path_format", UNMATCHED)
            self._metrics.request(scope["method"], route, status, time.monotonic() - began)
            _note(scope["method"], scope, status, began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note how a handshake went when that is known, and how long its socket was open once it is not."""
        began = time.monotonic()
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                if message["type"] == "websocket.http.response.start":
                    _add_headers(message)
                status = _HANDSHAKE.get(message["type"]) or int(message.get("status", _NO_ANSWER))
                _note("WEBSOCKET", scope, status, began)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            socket = scope.get(SOCKET_KEY)
            if socket is not None and socket.session is not None and socket.closing is not None:
                _note("WEBSOCKET", scope, socket.closing.code, began)


def _add_headers(message: Message) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


def _note(method: str, scope: Scope, status: int, began: float) -> None:
    route = getattr(scope.get("route"), "path_format", UNMATCHED)
    ms = round((time.monotonic() - began) * 1000, 1)
    extra = {"method": method, "route": route, "status": status, "ms": ms}
    log.info("%s %s %d %.1f ms", method, route, status, ms, extra=extra)


class LastResort:
    """ASGI middleware: turns a fault that nobody caught into a 500 that says nothing."""

    def __init__(self, app: ASGIApp) -> None:
        """Put it inside `Access`, so that its answer has every header and is counted."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            faults.exception("a request failed")
            if answered:
                # Half an answer is out: closing the connection is the only way to say that it is not whole.
                raise
            await error_answer(scope, error)(scope, receive, send)
