"""A server in a process of its own, which a test signals, freezes and reads the log of; and clients of it."""

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.api.api import APPLICATION, OPERATOR
from tests.cli.command import environment
from tests.support import processes
from tests.support.polling import eventually

_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
ORIGIN = "https://app.example.com"
SETTINGS = {
    "HOLDFAST_APP_TOKEN": APPLICATION,
    "HOLDFAST_ADMIN_TOKEN": OPERATOR,
    "HOLDFAST_ALLOWED_ORIGINS": ORIGIN,
}
PATIENT = {"HOLDFAST_DEADLINE_SECONDS": "30", "HOLDFAST_CONNECTIONS": "12"}
"""For tests with many clients, none of whom is to be refused because a busy machine let it wait."""


class Server:
    """A running server process."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log
        self.address = ""

    def written(self) -> str:
        """Its whole log."""
        return self.log.read_text(errors="replace")

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        """Ask it over HTTP, on a connection of its own."""
        async with httpx2.AsyncClient(base_url=self.address, timeout=30) as client:
            return await client.get(path, **options)

    def connect(
        self, path: str = "/ws", *, token: str | None = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """A WebSocket client of it; a token goes into the header."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        address = self.address.replace("http://", "ws://") + path
        return connect(address, additional_headers=sent, **{"open_timeout": 60, "proxy": None, **options})

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        processes.freeze(self.process.pid)

    def thaw(self) -> None:
        """SIGCONT."""
        processes.thaw(self.process.pid)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, deadline: float = 30.0) -> int:
        """Wait for its end: the exit code."""
        await eventually(lambda: self.process.poll() is not None, what="the server has ended", deadline=deadline)
        return int(self.process.returncode)


@asynccontextmanager
async def running(
    folder: Path,
    name: str,
    settings: Mapping[str, str],
    *arguments: str,
    files: int | None = None,
    waits: bool = False,
) -> AsyncIterator[Server]:
    """`holdfast serve` with these settings, ready to serve unless it `waits`; killed at the end if it still runs.

    `files` is the hard limit on its open files.
    """
    limit = None if files is None else lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", *(arguments or ("holdfast", "serve")), "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once, and is waited for without blocking
            command,
            cwd=folder,
            env=environment(**{**SETTINGS, **settings}),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,  # noqa: PLW1509 - a limit of the child's own; this process has no threads to speak of
        )
    server = Server(process, log)
    try:
        await eventually(
            lambda: process.poll() is not None or _LISTENING.search(server.written()) is not None, what=name
        )
        found = _LISTENING.search(server.written())
        assert found is not None, server.written()
        server.address = found[1]

        async def ready() -> bool:
            try:
                return (await server.get("/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        if not waits:
            await eventually(ready, what=f"{name} is ready")
        yield server
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        process.wait()


async def ending(client: ClientConnection) -> tuple[int | None, str, list[str | bytes]]:
    """Read until the close: its code, its reason, and what came before it."""
    received: list[str | bytes] = []
    try:
        async with asyncio.timeout(60):
            while True:
                received.append(await client.recv())
    except ConnectionClosed:
        return client.close_code, client.close_reason or "", received
