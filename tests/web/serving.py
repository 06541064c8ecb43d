"""An application behind a real port, and exact bytes to send to it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from tests.support.polling import eventually
from tests.support.ports import LOOPBACK


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Answer(NamedTuple):
    """What came back: status, header lines in order, names in lower case, and the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for each, value in self.headers if each == name]

    def one(self, name: str) -> str | None:
        """The value of a header that is there at most once."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None


@asynccontextmanager
async def listening(app: ASGIApp, *, sockets: bool = False) -> AsyncIterator[int]:
    """The port of an application, served by uvicorn in this test's event loop until the end of the block."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        ws: Literal["websockets-sansio", "none"] = "websockets-sansio" if sockets else "none"
        server = _Server(uvicorn.Config(app, http="h11", ws=ws, lifespan="on", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started or task.done(), what="the server listens")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def ask(port: int, method: str, path: str, *headers: bytes, body: bytes = b"") -> Answer:
    """One request whose header lines are exactly these bytes, and its answer."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: app.test", b"Connection: close", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    writer.write(b"\r\n".join([*lines, b"", b""]) + body)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in others]
    return Answer(int(first.split(" ")[1]), [(name.lower(), value) for name, _, value in pairs], rest)
