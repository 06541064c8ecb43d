"""What surrounds every request: its log line and numbers, its security headers, and the last resort."""

import logging
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.server.metrics import Metrics
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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NO_ANSWER
        began = time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path_format", UNMATCHED)
            self._metrics.request(scope["method"], route, status, seconds)
            log.info(
                "%s %s %d %.1f ms",
                scope["method"],
                route,
                status,
                seconds * 1000,
                extra={
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                },
            )


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
