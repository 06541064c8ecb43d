"""Logging in to PostgreSQL with a name and a password (SCRAM-SHA-256, RFC 5802 and RFC 7677)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.support import packets
from tests.support.wire import READY

_OK, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 10, 11, 12


@dataclass(eq=False)
class ServerConnection:
    """A connection that is logged in and idle, without a driver around it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: bytes = b""
    """What a cancel request has to name."""
    parameters: dict[str, str] = field(default_factory=dict)
    """The settings that the server reports to its clients."""


async def log_in(address: str) -> ServerConnection:
    """Connect to `address` and log in; `ConnectionError` with the server's words if it declines."""
    parts = urlsplit(address)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    connection = ServerConnection(reader, writer)
    writer.write(packets.startup({"user": user, "database": unquote(parts.path[1:])}))
    exchange = _Scram(password)
    try:
        while True:
            kind, body = await packets.read(reader)
            if kind == b"E":
                raise ConnectionError(packets.error_text(body))
            if kind == b"R":
                answer = exchange.answer(body)
                if answer:
                    writer.write(packets.pack(b"p", answer))
            elif kind == b"K":
                connection.key = body
            elif kind == b"S":
                name, value, _ = body.decode().split("\0")
                connection.parameters[name] = value
            elif kind == READY:
                return connection
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        writer.close()
        raise ConnectionError(str(error)) from error


class _Scram:
    """The client's part of one exchange; the server's proof of knowing the password is not checked."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._opening = f"n=,r={base64.b64encode(secrets.token_bytes(18)).decode()}"

    def answer(self, body: bytes) -> bytes | None:
        """The answer to one authentication message of the server, if it takes one."""
        (step,) = struct.unpack_from("!I", body)
        if step == _SASL:
            first = f"n,,{self._opening}".encode()
            return b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first
        if step == _SASL_CONTINUE:
            return self._proof(body[4:].decode())
        if step in {_OK, _SASL_FINAL}:
            return None
        raise ConnectionError(f"the server wants another way to log in ({step})")

    def _proof(self, challenge: str) -> bytes:
        fields = dict(part.split("=", 1) for part in challenge.split(","))
        salt, rounds = base64.b64decode(fields["s"]), int(fields["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        # "biws" is the header "n,," again, in base64.
        closing = f"c=biws,r={fields['r']}"
        signed = f"{self._opening},{challenge},{closing}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{closing},p={base64.b64encode(proof).decode()}".encode()
