"""A WebSocket client that costs little, for crowds: ten thousand of them fit into one process.

As much of RFC 6455 as text echoes and closes need: no fragments, no compression, no binary messages. What it does not
understand it refuses loudly, so that no test takes a misreading for an answer. Its mask is zero, which servers have to
accept: against proxies that can be fooled it protects nothing, and on loopback there are none.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from typing import Protocol, Self

from tests.support.ports import LOOPBACK

_KEY = b"bGlnaHQgc29ja2V0ISEhIQ=="
_ACCEPTED = base64.b64encode(
    hashlib.sha1(_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
)
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_FINAL, _MASKED = 0x80, 0x80
_NO_MASK = bytes(4)

ABNORMAL = 1006
"""The code of a socket whose connection ended without a close frame."""


class Refused(Exception):
    """The handshake was answered with an HTTP status instead of a socket; `head` is what came back."""

    def __init__(self, status: int, head: str) -> None:
        super().__init__(f"the handshake was answered with {status}")
        self.status = status
        self.head = head


class Listener(Protocol):
    """Who is told what the sockets of a crowd receive."""

    def text(self, socket: LightSocket, text: bytes) -> None:
        """A whole text message, in UTF-8."""

    def closed(self, socket: LightSocket) -> None:
        """The server's close frame has come, or the connection ended without one: `socket.code` and `.reason`."""


class LightSocket(asyncio.Protocol):
    """One client socket."""

    __slots__ = ("_answered", "_buffer", "_listener", "_said_goodbye", "_transport", "code", "number", "reason")

    def __init__(self, number: int, listener: Listener) -> None:
        """Made by `open`."""
        self.number = number
        """Whatever tells it from the others of its crowd."""
        self.code: int | None = None
        """The code of the close that the server sent, or 1006; `None` while it is open."""
        self.reason = ""
        self._listener = listener
        self._buffer = b""
        self._said_goodbye = False
        self._answered: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    @classmethod
    async def open(
        cls, port: int, path: str, headers: Iterable[tuple[str, str]], number: int, listener: Listener
    ) -> Self:
        """Connect to a server on loopback. Raises `Refused`, and `OSError` when the connection ends instead."""
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(lambda: cls(number, listener), LOOPBACK, port)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {LOOPBACK}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {_KEY.decode()}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in headers),
        ]
        socket._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answered = socket._answered
        assert answered is not None
        try:
            await answered
        finally:
            socket._answered = None
        return socket

    def send(self, text: bytes) -> None:
        """Send a text message of at most 65,535 bytes of UTF-8. Without effect once the connection is gone."""
        self._frame(_TEXT, text)

    def close(self) -> None:
        """Say goodbye; the server's answer is told to the listener."""
        self._goodbye((1000).to_bytes(2, "big"))

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._answered is not None:
            if not self._answered.done():
                self._answered.set_exception(ConnectionResetError("the connection ended during the handshake"))
        elif self.code is None:
            self.code = ABNORMAL
            self._listener.closed(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._buffer:
            data = self._buffer + data
        if self._answered is not None and not self._answered.done():
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            if not self._shake(head.decode("latin-1")):
                return
        self._buffer = self._read(data)

    def _shake(self, head: str) -> bool:
        """Understand the answer to the handshake; whether it is a socket now."""
        assert self._answered is not None
        status = int(head.split(" ", 2)[1])
        if status != 101:
            self._answered.set_exception(Refused(status, head))
            self._transport.close()
            return False
        assert f"sec-websocket-accept: {_ACCEPTED.decode()}".lower() in head.lower(), head
        self._answered.set_result(None)
        return True

    def _read(self, data: bytes) -> bytes:
        """Take the whole frames off the front; what is left over."""
        at = 0
        while len(data) >= at + 2:
            first, length = data[at], data[at + 1]
            begins = at + 2
            # A masked one, which no server may send, has the highest bit here.
            assert length <= 126, f"a frame that is too long, or masked: {data[at : at + 4]!r}"
            if length == 126:
                begins += 2
                length = int.from_bytes(data[at + 2 : begins], "big")
            if len(data) < begins + length:
                break
            at = begins + length
            self._take(first, data[begins:at])
        return data[at:]

    def _take(self, first: int, payload: bytes) -> None:
        if first == _FINAL | _TEXT:
            self._listener.text(self, payload)
        elif first == _FINAL | _PING:
            self._frame(_PONG, payload)
        elif first == _FINAL | _CLOSE:
            if self.code is None:
                self.code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.reason = payload[2:].decode()
                self._goodbye(payload[:2])
                self._listener.closed(self)
        else:
            assert first == _FINAL | _PONG, f"a frame of a kind that was not expected: {first:#x}"

    def _goodbye(self, payload: bytes) -> None:
        if not self._said_goodbye:
            self._said_goodbye = True
            self._frame(_CLOSE, payload)

    def _frame(self, kind: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = bytes((_FINAL | kind, _MASKED | length))
        else:
            head = bytes((_FINAL | kind, _MASKED | 126)) + length.to_bytes(2, "big")
        if not self._transport.is_closing():
            self._transport.write(head + _NO_MASK + payload)
