"""A stand-in for PgBouncer in transaction mode, without tracking of prepared statements.

A client has a server connection only from the first message of a transaction to its end; the next
transaction gets another one.  Whatever a client leaves in a session - prepared statements, `SET`,
advisory locks, `LISTEN` - stays behind with a connection that others use next.
"""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import unquote, urlsplit

from tests.support import packets
from tests.support.admin import with_place
from tests.support.login import log_in
from tests.support.pooled import TRACKED, PooledClient, PooledServer
from tests.support.ports import LOOPBACK, free_port
from tests.support.wire import CANCEL_REQUEST, GSS_REQUEST, TLS_REQUEST


class ServerUnavailable(Exception):
    """The pooler cannot connect to the server, in the server's or the system's words."""


class TransactionPooler:
    """Shares `size` server connections among any number of clients; use it with `async with`.

    It logs in to the server as the user of `address`, and lets every client in without a password:
    what is tested is the sharing, not the door.
    """

    def __init__(self, address: str, size: int = 2) -> None:
        self.port = free_port()
        #: Transactions that ended, for all clients.
        self.transactions = 0
        #: Messages of the server that came to a connection nobody had: notifications.
        self.dropped = 0
        self._upstream = address
        self._database = unquote(urlsplit(address).path[1:])
        # First in, first out: one client alone meets every server connection in turn.  `None` is
        # a connection yet to be made.
        self._slots: asyncio.Queue[PooledServer | None] = asyncio.Queue()
        for _ in range(size):
            self._slots.put_nowait(None)
        self._clients: dict[bytes, PooledClient] = {}
        self._backends: set[PooledServer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """The server's address through the pooler."""
        return with_place(self._upstream, LOOPBACK, self.port)

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._listener is not None:
            self._listener.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in list(self._backends):
            await backend.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            client = await self._admit(reader, writer)
            if client is not None:
                self._clients[client.key] = client
                try:
                    await client.converse()
                finally:
                    del self._clients[client.key]
                    await client.leave()
        except ServerUnavailable as error:
            writer.write(packets.error("08006", str(error)))
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> PooledClient | None:
        """Answer the start of a connection; `None` when it is not one that stays."""
        code, packet = await packets.read_startup(reader)
        while code in {TLS_REQUEST, GSS_REQUEST}:
            writer.write(b"N")
            code, packet = await packets.read_startup(reader)
        if code == CANCEL_REQUEST:
            await self._cancel(packet)
            return None
        wanted = packets.settings(packet)
        for name in wanted:
            if name not in {"user", "database"} and name.lower() not in TRACKED:
                writer.write(packets.error("08P01", f"unsupported startup parameter: {name}"))
                return None
        if wanted.get("database", wanted["user"]) != self._database:
            writer.write(packets.error("08P01", f"no such database: {wanted.get('database')}"))
            return None
        client = PooledClient(self, reader, writer, wanted)
        await client.greet()
        return client

    async def _cancel(self, key: bytes) -> None:
        client = self._clients.get(key)
        if client is None or client.backend is None:
            return
        # Cancelling has a connection of its own, which the server closes without a word.
        number = CANCEL_REQUEST.to_bytes(4, "big")
        parts = urlsplit(self._upstream)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(packets.pack(b"", number + client.backend.connection.key))
        await reader.read()
        writer.close()

    async def acquire(self) -> PooledServer:
        """The next server connection, once one is free; `ServerUnavailable` when it cannot be made."""
        slot = await self._slots.get()
        if slot is not None and not slot.lost:
            return slot
        backend: PooledServer | None = None
        try:
            backend = PooledServer(self, await log_in(self._upstream))
        except OSError as error:
            raise ServerUnavailable(str(error)) from error
        finally:
            if backend is None:
                self._slots.put_nowait(None)
        self._backends.add(backend)
        return backend

    def release(self, backend: PooledServer) -> None:
        """Hand a server connection to whoever is next."""
        if backend.lost:
            self._backends.discard(backend)
        self._slots.put_nowait(None if backend.lost else backend)
