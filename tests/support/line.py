"""One connection through the fault proxy: client, server and the two ways between them."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from tests.support.wire import Conversation, Message

if TYPE_CHECKING:
    from tests.support.proxy import Direction, FaultProxy, Trap

_CHUNK = 65_536

# Pieces of data under way in one direction; more wait in the kernel, and then at their sender.
_UNDER_WAY = 256

# Times per second that a narrow line sends.
_TICKS = 50


class Line:
    """Carries one client's connection under the conditions of its proxy."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._conversation = Conversation() if proxy.protocol == "postgres" else None
        self._trap: Trap | None = None
        self._lost_answer = 0
        self._spoke: Direction = "to_client"
        self._ended = False

    async def carry(self) -> None:
        """Connect to the server and carry data both ways until either side ends."""
        tasks: list[asyncio.Task[None]] = []
        try:
            # Held from the start, the server never hears of this client.
            await self._proxy.conditions.flowing.wait()
            self._server = await asyncio.open_connection(*self._proxy.target)
            if self._ended:
                # Cut while it was connecting.
                _close(self._server[1], reset=True)
                return
            up: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
            down: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
            tasks = [
                asyncio.create_task(self._receive("to_server", self._client[0], up)),
                asyncio.create_task(self._receive("to_client", self._server[0], down)),
                asyncio.create_task(self._send("to_server", self._server[1], up)),
                asyncio.create_task(self._send("to_client", self._client[1], down)),
            ]
            # The receivers end by themselves; a connection is over when a sender is.
            await asyncio.wait(tasks[2:], return_when=asyncio.FIRST_COMPLETED)
            self.end(reset=False)
        except OSError:
            # The server cannot be reached.  A client connects to the proxy before the proxy
            # connects to the server, so it sees a reset where it would have seen a refusal.
            self.end(reset=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.end(reset=True)

    def end(self, *, reset: bool) -> None:
        """Close both sides, with RST or FIN; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        for _, writer in filter(None, (self._client, self._server)):
            _close(writer, reset=reset)

    async def _receive(
        self, direction: Direction, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while data := await reader.read(_CHUNK):
                self._count_received(direction, len(data))
                if self._conversation is None:
                    kept = data
                elif direction == "to_server":
                    kept = self._passed_on(self._conversation.from_client(data))
                else:
                    kept = self._not_lost(self._conversation.from_server(data))
                conditions = self._proxy.conditions
                extra = self._proxy.random.uniform(0, conditions.jitter)
                if kept:
                    await queue.put((clock() + conditions.delay + extra, kept))
        except OSError:
            pass
        if direction == "to_client" and self._trap is not None:
            # The server hung up in place of answering, which is all the answer there will be.
            self._spring(self._trap)
        # An empty piece is the end of the connection, which travels like data.
        await queue.put((clock(), b""))

    def _count_received(self, direction: Direction, count: int) -> None:
        turned, self._spoke = direction != self._spoke, direction
        if direction == "to_server":
            self._proxy.counters.from_client += count
            self._proxy.counters.turns += turned
        else:
            self._proxy.counters.from_server += count

    def _passed_on(self, messages: list[Message]) -> bytes:
        """The bytes of a client's messages that the server gets; a trap may be waiting for one."""
        passed = b""
        for message in messages:
            trap = self._trapped(message)
            if trap is not None and not trap.forwards:
                self._spring(trap)
                return b""
            if trap is not None:
                self._trap, self._lost_answer = trap, message.answer
            passed += message.raw
        return passed

    def _trapped(self, message: Message) -> Trap | None:
        if message.sql is None or self._trap is not None:
            return None
        traps = self._proxy.conditions.traps
        for trap in traps:
            if trap.matches(message.sql):
                traps.remove(trap)
                return trap
        return None

    def _not_lost(self, messages: list[Message]) -> bytes:
        """The bytes of the server's messages that the client gets."""
        if self._trap is None:
            return b"".join(message.raw for message in messages)
        passed = b""
        for message in messages:
            if message.answer < self._lost_answer:
                # An answer to an earlier request of the same client, still under way.
                passed += message.raw
            elif message.ends_answer:
                self._spring(self._trap)
                return b""
        return passed

    def _spring(self, trap: Trap) -> None:
        self.end(reset=True)
        trap.sprung.set()

    async def _send(
        self, direction: Direction, writer: asyncio.StreamWriter, queue: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        # Nothing waits in this process: what was written counts as sent.
        writer.transport.set_write_buffer_limits(high=0)
        while True:
            due, data = await queue.get()
            # The network is slow: here, and for its bandwidth below.
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._proxy.conditions.flowing.wait()
            if not data:
                return
            while data and not self._ended:
                size = self._size(len(data), direction)
                piece, data = data[:size], data[size:]
                try:
                    writer.write(piece)
                    await writer.drain()
                except OSError:
                    return
                if not self._account(direction, len(piece)):
                    return
                rate = self._proxy.conditions.bandwidth
                await asyncio.sleep(len(piece) / rate if rate else 0)
                await self._proxy.conditions.flowing.wait()

    def _size(self, waiting: int, direction: Direction) -> int:
        """How many bytes the next write may have."""
        conditions = self._proxy.conditions
        limits = [waiting, conditions.piece or waiting]
        if conditions.bandwidth is not None:
            limits.append(max(1, int(conditions.bandwidth / _TICKS)))
        if direction in conditions.budget:
            limits.append(conditions.budget[direction])
        return min(limits)

    def _account(self, direction: Direction, count: int) -> bool:
        """Count what was sent; false when the connection was reset because the budget is spent."""
        counters, budget = self._proxy.counters, self._proxy.conditions.budget
        if direction == "to_server":
            counters.to_server += count
        else:
            counters.to_client += count
        if direction not in budget:
            return True
        budget[direction] -= count
        if budget[direction] > 0:
            return True
        del budget[direction]
        self.end(reset=True)
        return False


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if not reset:
        writer.close()
        return
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() != -1:
        # Lingering for zero seconds: closing discards what is unsent and sends RST.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
