"""The server of the socket bars: an echo on uvicorn, guarded or not: `python -m benchmarks.sockets.server`.

Both are the same Starlette application under the same server with the same settings, those of `holdfast serve`:
nothing compressed, no access log, a garbage collector that seldom looks through everything. Around the one stands the
guard, with its defaults, and beneath it the protocol that the guard brings for uvicorn; the other has neither.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]  # its types are a package of their own
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from benchmarks.child import obey
from holdfast import SessionManager
from holdfast.server.garbage import collect_seldom
from holdfast.sessions.store import StoreOptions
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.uvicorn_protocol import BoundedSocketProtocol
from tests.support.ports import LOOPBACK

_BACKLOG = 2048

SETTINGS: dict[str, Any] = {
    "http": "h11",
    "ws_max_size": 131_072,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": False,
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "timeout_graceful_shutdown": 10,
}
"""How uvicorn is configured, for both sides."""
PROTOCOLS: dict[str, Any] = {"plain": "websockets-sansio", "guarded": BoundedSocketProtocol}
"""And the one thing that differs: who reads the frames. The plain one is what the other is made of."""


class _Server(uvicorn.Server):
    """uvicorn's server, stopped by the end of its input rather than by signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def echo(websocket: WebSocket) -> None:
    """Send back what comes."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@contextlib.asynccontextmanager
async def application(address: str | None, schema: str | None) -> AsyncIterator[ASGIApp]:
    """The echo, guarded when there is a store."""
    plain = Starlette(routes=[WebSocketRoute("/", echo)])
    if address is None:
        yield plain
        return
    options = StoreOptions() if schema is None else StoreOptions(schema=schema)
    async with SessionManager(address, sweep_interval=None, options=options) as manager:
        yield SocketGuard(manager)(plain)


async def measure() -> dict[str, float]:
    """What this process has and has used, garbage left out."""
    gc.collect()
    process = psutil.Process()
    used = process.cpu_times()
    return {"memory": process.memory_info().rss, "processor_seconds": used.user + used.system}


async def serve(address: str | None, schema: str | None) -> None:
    """Serve until there are no more commands."""
    collect_seldom()
    async with application(address, schema) as app:
        with socket.create_server((LOOPBACK, 0), backlog=_BACKLOG) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol = PROTOCOLS["plain" if address is None else "guarded"]
            server = _Server(uvicorn.Config(app, ws=protocol, **SETTINGS))
            running = asyncio.create_task(server.serve(sockets=[listener]))

            async def port() -> int:
                return int(listener.getsockname()[1])

            await obey({"port": port, "measure": measure})
            server.should_exit = True
            await running


def main() -> None:
    """Serve what the command line says."""
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="the store of the guard; without it nothing is guarded")
    parser.add_argument("--schema")
    given = parser.parse_args()
    asyncio.run(serve(given.address, given.schema))


if __name__ == "__main__":
    main()
