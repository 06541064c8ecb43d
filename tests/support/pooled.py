"""The two ends of the pooler: a client that stays, and a server connection it has for a while."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING

from tests.support import packets
from tests.support.login import ServerConnection
from tests.support.wire import READY

if TYPE_CHECKING:
    from tests.support.pooler import TransactionPooler

#: Start-up settings that PgBouncer carries from client to server connection, by lower-case name.
TRACKED = frozenset({"client_encoding", "application_name", "datestyle", "timezone", "standard_conforming_strings"})

_IDLE = b"I"

#: Client messages that the server answers with "ready": query, sync, function call.
_REQUESTS = frozenset({b"Q", b"S", b"F"})


class PooledClient:
    """One client's connection, and the server connection it has for the moment."""

    def __init__(
        self,
        pooler: TransactionPooler,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        wanted: dict[str, str],
    ) -> None:
        self.key = secrets.token_bytes(8)
        self.backend: PooledServer | None = None
        self.writer = writer
        self.tracked = {name.lower(): value for name, value in wanted.items() if name.lower() in TRACKED}
        self._pooler = pooler
        self._reader = reader
        self._waiting = 0

    async def greet(self) -> None:
        """Tell the client that it is logged in, with the parameters of a real connection."""
        backend = await self._pooler.acquire()
        parameters = {**backend.connection.parameters, **self._reported()}
        self._pooler.release(backend)
        self.writer.write(packets.pack(b"R", bytes(4)))
        for name, value in parameters.items():
            self.writer.write(packets.pack(b"S", f"{name}\0{value}\0".encode()))
        self.writer.write(packets.pack(b"K", self.key) + packets.pack(READY, _IDLE))
        await self.writer.drain()

    def _reported(self) -> dict[str, str]:
        spelled = {"datestyle": "DateStyle", "timezone": "TimeZone"}
        return {spelled.get(name, name): value for name, value in self.tracked.items()}

    async def converse(self) -> None:
        """Carry messages to the server until the client leaves."""
        while True:
            kind, body = await packets.read(self._reader)
            if kind == b"X":
                return
            if self.backend is None:
                self.backend = backend = await self._pooler.acquire()
                await backend.assign(self)
            self._waiting += kind in _REQUESTS
            self.backend.connection.writer.write(packets.pack(kind, body))
            await self.backend.connection.writer.drain()

    def receive(self, kind: bytes, body: bytes) -> None:
        """Take one message of the server; the end of a transaction frees the server connection."""
        self.writer.write(packets.pack(kind, body))
        if kind == b"S":
            name, value, _ = body.decode().split("\0")
            if name.lower() in TRACKED:
                self.tracked[name.lower()] = value
        if kind != READY:
            return
        self._waiting -= 1
        if body == _IDLE and self._waiting == 0 and self.backend is not None:
            backend, self.backend = self.backend, None
            backend.client = None
            self._pooler.transactions += 1
            self._pooler.release(backend)

    def abandoned(self) -> None:
        """The server connection broke in the middle of this client's transaction."""
        self.writer.write(packets.error("08P01", "server conn crashed?"))
        self.writer.close()

    async def leave(self) -> None:
        """Give back a server connection whose transaction the client left unfinished."""
        if self.backend is not None:
            backend, self.backend = self.backend, None
            await backend.close()
            self._pooler.release(backend)


class PooledServer:
    """One server connection and the client it serves for the moment."""

    def __init__(self, pooler: TransactionPooler, connection: ServerConnection) -> None:
        self._pooler = pooler
        self.connection = connection
        self.client: PooledClient | None = None
        self.lost = False
        self._settings = dict.fromkeys(TRACKED, "")
        self._settings.update({name.lower(): value for name, value in connection.parameters.items()})
        self._adjusted = asyncio.Event()
        self._adjusting = False
        self._reading = asyncio.create_task(self._read())

    async def assign(self, client: PooledClient) -> None:
        """Serve `client`, after giving the session the tracked settings that this client has."""
        changes = {name: value for name, value in client.tracked.items() if self._settings.get(name) != value}
        if changes:
            quoted = {name: value.replace("'", "''") for name, value in changes.items()}
            text = "".join(f"SET {name} = '{value}';" for name, value in quoted.items())
            self._adjusting = True
            self._adjusted.clear()
            self.connection.writer.write(packets.pack(b"Q", text.encode() + b"\0"))
            await self._adjusted.wait()
            self._settings.update(changes)
        self.client = client
        if self.lost:
            client.abandoned()

    async def _read(self) -> None:
        """Pass the server's messages on; with nobody to pass them to (notifications), drop them."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, body = await packets.read(self.connection.reader)
                if kind == b"S":
                    name, value, _ = body.decode().split("\0")
                    self._settings[name.lower()] = value
                if self.client is not None:
                    client = self.client
                    client.receive(kind, body)
                    with contextlib.suppress(OSError):
                        await client.writer.drain()
                elif not self._adjusting:
                    self._pooler.dropped += 1
                elif kind == READY:
                    self._adjusting = False
                    self._adjusted.set()
        self.lost = True
        self.connection.writer.close()
        self._adjusted.set()
        if self.client is not None:
            self.client.abandoned()

    async def close(self) -> None:
        """End the connection; the server rolls back what was unfinished."""
        self.lost, self.client = True, None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self.connection.writer.close()
