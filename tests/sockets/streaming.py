"""The ready-made server with a stream of an application's own: `python -m tests.sockets.streaming --port 0`.

`/stream` sends what the time is, on the clock that all processes of the machine share, twenty times a second, and
`/flood` as much as it can. Neither ever receives anything: only the guard can close them.
"""

import argparse
import asyncio
import time
from dataclasses import replace
from typing import Annotated

from fastapi import Depends
from starlette.websockets import WebSocket

from holdfast import Session
from holdfast.server.app import create_app, guard_options_of
from holdfast.server.run import serve
from holdfast.settings import Settings
from holdfast.sockets import socket_session
from holdfast.sockets.guard import SocketGuard
from holdfast.web.middleware import HoldfastMiddleware


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    settings = replace(Settings.from_environment(), port=parser.parse_args().port)
    app = create_app(settings)
    guard = SocketGuard(app.state.manager, guard_options_of(settings))
    app.state.guards.append(guard)

    async def stream(websocket: WebSocket, _: Annotated[Session, Depends(socket_session)]) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(str(time.monotonic()))
            # A stream has a rate; nobody waits for it.
            await asyncio.sleep(0.05)

    async def flood(websocket: WebSocket, _: Annotated[Session, Depends(socket_session)]) -> None:
        await websocket.accept()
        while True:
            await websocket.send_bytes(b"x" * 65_536)

    app.add_api_websocket_route("/stream", stream)
    app.add_api_websocket_route("/flood", flood)
    app.add_middleware(HoldfastMiddleware, manager=app.state.manager, sockets=guard)
    serve(settings, app)


if __name__ == "__main__":
    main()
