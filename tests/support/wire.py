"""As much of PostgreSQL's wire protocol as it takes to know whose answer is whose.

After the start-up packet both sides send messages of one type byte, a length of four bytes (which
counts itself) and a body.  The client marks the end of a request (`Query`, `Sync`); the server ends
each answer with `ReadyForQuery`.  Requests may be sent ahead of their answers: the n-th
`ReadyForQuery` belongs to the n-th request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

#: What a client may open a connection with, by the number in its first packet.
CANCEL_REQUEST, TLS_REQUEST, GSS_REQUEST = 80877102, 80877103, 80877104

# Types of client messages.
_QUERY, _PARSE, _BIND, _EXECUTE, _SYNC, _CALL = b"Q", b"P", b"B", b"E", b"S", b"F"

#: The server's `ReadyForQuery`; its body is one byte: I idle, T in a transaction, E in a failed one.
READY = b"Z"


@dataclass(frozen=True)
class Message:
    """One whole message of either side."""

    raw: bytes
    """All its bytes, to be sent on as they are."""

    kind: bytes
    """The type byte; empty for a start-up packet and for bytes that were not understood."""

    answer: int
    """The number of the answer it belongs to or asks for; the first, 1, ends the log-in."""

    sql: bytes | None = None
    """The text of the statement that this client message executes, prepared earlier or not."""

    @property
    def body(self) -> bytes:
        """What follows type and length."""
        return self.raw[len(self.kind) + 4 :]

    @property
    def ends_answer(self) -> bool:
        """Whether this is the server's "ready for the next request"."""
        return self.kind == READY


class Conversation:
    """Follows both directions of one connection; once TLS begins, messages are opaque bytes."""

    def __init__(self) -> None:
        self._client = b""
        self._server = b""
        self._starting = True
        self._opaque = False
        self._negotiating = 0
        self._requests = 0
        self._answers = 0
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}

    def from_client(self, data: bytes) -> list[Message]:
        """The messages that `data` completes; an incomplete rest waits for more."""
        messages: list[Message] = []
        self._client += data
        while self._client and not self._opaque:
            kind = b"" if self._starting else self._client[:1]
            raw = _first(self._client, typed=not self._starting)
            if raw is None:
                return messages
            self._client = self._client[len(raw) :]
            messages.append(self._understand(raw, kind))
        if self._client:
            messages.append(Message(self._client, b"", self._requests))
            self._client = b""
        return messages

    def _understand(self, raw: bytes, kind: bytes) -> Message:
        if not kind:
            (code,) = struct.unpack_from("!I", raw, 4)
            if code in {TLS_REQUEST, GSS_REQUEST}:
                self._negotiating += 1
            elif code != CANCEL_REQUEST:
                self._starting = False
                self._requests += 1
            return Message(raw, kind, self._requests)
        if kind in {_QUERY, _SYNC, _CALL}:
            self._requests += 1
        # What is sent before the `Sync` belongs to the request that the `Sync` will end.
        answer = self._requests if kind in {_QUERY, _SYNC, _CALL} else self._requests + 1
        return Message(raw, kind, answer, self._executed(kind, raw[5:]))

    def _executed(self, kind: bytes, body: bytes) -> bytes | None:
        """Keep track of prepared statements; the text when this message runs one."""
        first, _, rest = body.partition(b"\0")
        second = rest.partition(b"\0")[0]
        if kind == _PARSE:
            self._statements[first] = second
        elif kind == _BIND:
            self._portals[first] = self._statements.get(second, b"")
        elif kind == _EXECUTE:
            return self._portals.get(first, b"")
        elif kind == _QUERY:
            return first
        return None

    def from_server(self, data: bytes) -> list[Message]:
        """The messages that `data` completes; an incomplete rest waits for more."""
        messages: list[Message] = []
        self._server += data
        while self._server and not self._opaque:
            if self._negotiating and self._server[:1] in {b"S", b"N", b"G"}:
                # A lone byte answers the wish for encryption; N is "no", all else ends our reading.
                self._negotiating -= 1
                self._opaque = self._server[:1] != b"N"
                messages.append(Message(self._server[:1], b"", 1))
                self._server = self._server[1:]
                continue
            raw = _first(self._server, typed=True)
            if raw is None:
                return messages
            self._server = self._server[len(raw) :]
            messages.append(Message(raw, raw[:1], self._answers + 1))
            self._answers += raw[:1] == READY
        if self._server:
            messages.append(Message(self._server, b"", self._answers + 1))
            self._server = b""
        return messages


def _first(data: bytes, *, typed: bool) -> bytes | None:
    """The first message in `data`, or `None` when it is not complete yet."""
    start = 1 if typed else 0
    if len(data) < start + 4:
        return None
    (length,) = struct.unpack_from("!I", data, start)
    end = start + int(length)
    return data[:end] if len(data) >= end else None
