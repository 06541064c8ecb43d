"""A server whose every socket does what the test says: for the client alone, without a session behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from holdfast.sockets.client import CLIENT_PATH, client_source
from tests.support.ports import LOOPBACK

_PAGE = b"<!DOCTYPE html><html lang=en><title>client</title><link rel=icon href=data:,><p>The client's page.</p></html>"
_POLICY = "default-src 'none'; script-src 'self'; connect-src 'self' ws:; img-src data:"


class ScriptedServer:
    """Serves a page, the client, and sockets: each one is handed to the test, which ends it as it likes."""

    def __init__(self) -> None:
        """Sockets are accepted until `refusing` is set."""
        self.port = 0
        self.attempts: asyncio.Queue[str] = asyncio.Queue()
        """One entry for every handshake, refused ones too: the ticket it came with, or the empty string."""
        self.sockets: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.refusing = False
        self._over = asyncio.Event()

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{LOOPBACK}:{self.port}/"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedServer"]:
        """Serve until the end of the block."""
        async with serve(self._hold, LOOPBACK, 0, process_request=self._answer, compression=None) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self
            self._over.set()

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path)
        if path.path == "/ws":
            self.attempts.put_nowait(parse_qs(path.query).get("ticket", [""])[0])
            return _response(HTTPStatus.FORBIDDEN, "text/plain", b"") if self.refusing else None
        if path.path == CLIENT_PATH:
            return _response(HTTPStatus.OK, "text/javascript", client_source())
        return _response(HTTPStatus.OK, "text/html", _PAGE)

    async def _hold(self, socket: ServerConnection) -> None:
        """Returning would close it: it stays open until the test closes it, or is over."""
        self.sockets.put_nowait(socket)
        over = asyncio.ensure_future(self._over.wait())
        closed = asyncio.ensure_future(socket.wait_closed())
        await asyncio.wait((over, closed), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        closed.cancel()


def _response(status: HTTPStatus, media_type: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": media_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": _POLICY,
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)
