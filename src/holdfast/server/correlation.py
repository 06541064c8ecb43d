"""One id for one request: in its answer, in its log lines, and in the body of a fault."""

import re
from contextvars import ContextVar
from typing import Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.sessions.tokens import SECRET_PATTERN
from holdfast.sockets.connection import remember_connection

HEADER: Final = "X-Correlation-ID"
current: Final[ContextVar[str]] = ContextVar("holdfast_correlation_id", default="-")
"""The id of the request under way; a dash outside of any."""

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STARTS: Final = frozenset(("http.response.start", "websocket.http.response.start"))
_TOKEN: Final = re.compile(SECRET_PATTERN)


class Correlation:
    """ASGI middleware: takes the client's id when it is harmless, else makes one."""

    def __init__(self, app: ASGIApp) -> None:
        """Put it outermost, so that no answer is without one."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        identifier = _identifier(Headers(scope=scope).getlist(HEADER))
        scope.setdefault("state", {})["correlation_id"] = identifier

        # The guard drops a connection through it; `send` is hidden behind a function from here on.
        remember_connection(scope, send)

        async def marked(message: Message) -> None:
            if message["type"] in _STARTS:
                MutableHeaders(scope=message)[HEADER] = identifier
            await send(message)

        previous = current.set(identifier)
        try:
            await self._app(scope, receive, marked)
        finally:
            current.reset(previous)


def _identifier(given: list[str]) -> str:
    if len(given) == 1 and _ACCEPTED.fullmatch(given[0]) and not _TOKEN.search(given[0]):
        return given[0]
    return uuid4().hex
