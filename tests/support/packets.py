"""Reading and writing single messages of PostgreSQL's wire protocol; see `wire` for its shape."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping

#: Version 3.0 of the protocol, as the number in a start-up packet.
VERSION_3 = 196608


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next message: type and body.  `IncompleteReadError` at the end of the connection."""
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], await reader.readexactly(length - 4)


async def read_startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next packet of a client that is not logged in: its number and the rest."""
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    packet = await reader.readexactly(length - 4)
    (code,) = struct.unpack_from("!I", packet)
    return int(code), packet[4:]


def pack(kind: bytes, body: bytes = b"") -> bytes:
    """A message; an empty `kind` makes a start-up packet."""
    return kind + struct.pack("!I", len(body) + 4) + body


def startup(settings: Mapping[str, str]) -> bytes:
    """A client's start-up packet."""
    fields = "".join(f"{name}\0{value}\0" for name, value in settings.items())
    return pack(b"", struct.pack("!I", VERSION_3) + fields.encode() + b"\0")


def settings(packet: bytes) -> dict[str, str]:
    """The settings in a start-up packet (without its number)."""
    parts = packet.decode().split("\0")
    return {name: value for name, value in zip(parts[::2], parts[1::2], strict=False) if name}


def error(code: str, text: str) -> bytes:
    """An error that ends the connection, as the server would send it."""
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": text}
    return pack(b"E", "".join(f"{key}{value}\0" for key, value in fields.items()).encode() + b"\0")


def error_text(body: bytes) -> str:
    """The text of the server's error message."""
    fields = [field.decode(errors="replace") for field in body.split(b"\0")]
    return next((field[1:] for field in fields if field.startswith("M")), "")
