"""A WebSocket client that sends frames which no library would, over a plain socket."""

import socket
import struct
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

TEXT, PING, CONTINUATION, CLOSE = 0x1, 0x9, 0x0, 0x8


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """One frame of a client's. Masked with zeros, so that the payload is what it was."""
    assert len(payload) < 126
    return struct.pack("!BB4x", opcode | (0x80 if final else 0), 0x80 | len(payload)) + payload


class RawClient:
    """An open socket of a session's. Its flood runs in a thread, which sends in blocks and so leaves the test alone."""

    def __init__(self, address: str, path: str, token: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=30)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        self.sent = 0
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        for thread in self._threads:
            thread.join()

    def flood(self, block: bytes, most: int) -> threading.Thread:
        """Send a block again and again, until so many bytes are sent or the server does not want them any more."""

        def run() -> None:
            try:
                while self.sent < most:
                    self.socket.sendall(block)
                    self.sent += len(block)
            except OSError:
                return

        return self._in_thread(run)

    def read(self) -> tuple[threading.Thread, bytearray]:
        """Read everything there is to the end, or to a reset: a thread, and what it has read."""
        received = bytearray()

        def run() -> None:
            try:
                while data := self.socket.recv(65_536):
                    received.extend(data)
            except OSError:
                return

        return self._in_thread(run), received

    def _in_thread(self, run: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread
