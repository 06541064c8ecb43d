"""A network that misbehaves on demand: a TCP proxy on loopback, inside the test's event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.support.admin import with_place
from tests.support.line import Line
from tests.support.ports import LOOPBACK, free_port

Direction = Literal["to_server", "to_client"]


@dataclass
class Counters:
    """What went through since the proxy began; bytes and connections."""

    accepted: int = 0
    from_client: int = 0
    to_server: int = 0
    from_server: int = 0
    to_client: int = 0
    turns: int = 0
    """How often a client spoke first or after it was answered: the round trips of one that does one thing at a time."""


@dataclass(eq=False)
class Trap:
    """Waits for one statement to be executed, on whatever connection, and springs once."""

    matches: Callable[[bytes], bool]
    forwards: bool
    """Whether the server gets the statement (the answer is lost) or not (the request is)."""

    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the connection has been reset - for a lost answer, after the server had answered."""


@dataclass
class Conditions:
    """The state of the network; a change is felt by the next bytes of every connection."""

    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    """Seconds each piece of data is under way, in each direction."""
    jitter: float = 0.0
    """Seconds at most added to that, evenly at random; pieces stay in order."""
    piece: int | None = None
    """Bytes per write; `None`: as they come."""
    bandwidth: float | None = None
    """Bytes per second of each direction of each connection; `None`: unlimited."""
    budget: dict[Direction, int] = field(default_factory=dict)
    """Bytes that may still pass in a direction before its connection is reset."""
    traps: list[Trap] = field(default_factory=list)


class FaultProxy:
    """Stands between clients and one server; use it as `async with FaultProxy(address) as proxy`.

    It passes everything through until told otherwise; `pass_through` ends all faults.  Faults
    combine, and hold for present and future connections alike.  With `protocol="raw"` it carries
    any protocol (HTTP, WebSocket); the faults that wait for a statement need "postgres", and an
    unencrypted connection.
    """

    def __init__(
        self, address: str, *, protocol: Literal["postgres", "raw"] = "postgres", seed: int | None = None
    ) -> None:
        self.port = free_port()
        self.protocol = protocol
        self.counters = Counters()
        self.conditions = Conditions()
        self.conditions.flowing.set()
        self.random = random.Random(seed)
        self.retarget(address)
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._listener: asyncio.Server | None = None

    def retarget(self, address: str) -> None:
        """Lead new connections to the server of another address, as a moved IP address does."""
        parts = urlsplit(address)
        if parts.hostname is None or parts.port is None:
            raise ValueError("the address needs a host and a port")
        self.target = (parts.hostname, parts.port)

    def address(self, address: str) -> str:
        """The same address through this proxy."""
        return with_place(address, LOOPBACK, self.port)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.refuse()
        tasks = list(self._lines.values())
        self.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Accept connections, again if they were refused."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counters.accepted += 1
        line = Line(self, reader, writer)
        self._lines[line] = asyncio.create_task(line.carry())
        self._lines[line].add_done_callback(lambda _: self._lines.pop(line, None))

    @property
    def open_connections(self) -> int:
        """Clients connected at present."""
        return len(self._lines)

    async def pass_through(self) -> None:
        """End every fault; what was held back arrives now."""
        flowing = self.conditions.flowing
        self.conditions = Conditions(flowing=flowing)
        flowing.set()
        await self.listen()

    def hold(self) -> None:
        """Accept connections and carry nothing, either way, until `pass_through`.

        Not even the end of a connection is passed on: to each side the other has gone silent.
        """
        self.conditions.flowing.clear()

    def refuse(self) -> None:
        """Close the listening port; present connections stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def cut(self, *, reset: bool = True) -> int:
        """End all present connections on both sides; return how many there were.

        With a reset (RST), data under way is lost; without, it is an orderly end (FIN).
        """
        lines = list(self._lines)
        for line in lines:
            line.end(reset=reset)
        return len(lines)

    def reset_after(self, count: int, direction: Direction) -> None:
        """Let `count` more bytes pass in a direction, over all connections, then reset once.

        The connection on which the count ran out is reset, in the middle of a message or not; the
        fault is over then.
        """
        self.conditions.budget[direction] = count

    def latency(self, seconds: float, jitter: float = 0.0) -> None:
        """Delay each direction by `seconds`, and at random by up to `jitter` seconds more."""
        self.conditions.delay, self.conditions.jitter = seconds, jitter

    def slice(self, size: int = 1) -> None:
        """Carry data in pieces of `size` bytes, one write each."""
        self.conditions.piece = size

    def bandwidth(self, bytes_per_second: float) -> None:
        """Carry no more than this in each direction of each connection."""
        self.conditions.bandwidth = bytes_per_second

    def drop_answer_to(self, pattern: bytes) -> Trap:
        """Lose the answer to the next executed statement whose text contains `pattern`.

        The server gets the statement and answers it in full; none of that answer reaches the
        client, whose connection is reset.  Letter case does not count.
        """
        return self.drop_next_answer(lambda sql: pattern.lower() in sql.lower())

    def drop_next_answer(self, after_sent: Callable[[bytes], bool] | None = None) -> Trap:
        """The same for the next executed statement whose text `after_sent` accepts; or just the next.

        A prepared statement counts when it is executed, with the text it was prepared from - not
        when it is prepared.
        """
        return self._set(Trap(after_sent or (lambda sql: True), forwards=True))

    def drop_request(self, after_sent: Callable[[bytes], bool] | None = None) -> Trap:
        """The opposite: reset the connection in place of sending the next such statement on."""
        return self._set(Trap(after_sent or (lambda sql: True), forwards=False))

    def _set(self, trap: Trap) -> Trap:
        if self.protocol != "postgres":
            raise ValueError("only a proxy that reads the protocol of PostgreSQL sees statements")
        self.conditions.traps.append(trap)
        return trap
