"""The eyes of the socket clients: when the close frame came, and what a server sends after it."""

import asyncio
import struct

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.chaos.socket_clients import Watched
from tests.support.polling import eventually

GOODBYE = struct.pack("!BBH", 0x88, 2 + len("revoked"), 4403) + b"revoked"
ECHO = b"\x81\x05hello"


@pytest.mark.parametrize(
    ("parts", "late"),
    [
        ([ECHO + GOODBYE], 0),
        ([ECHO, GOODBYE[:3], GOODBYE[3:]], 0),
        ([GOODBYE + ECHO], len(ECHO)),
        ([GOODBYE, ECHO], len(ECHO)),
        ([ECHO + GOODBYE + ECHO * 100], len(ECHO) * 100),
    ],
    ids=["before", "in pieces", "in the same packet", "in a later packet", "more than fits"],
)
async def test_bytes_after_a_close_frame_are_seen(parts: list[bytes], late: int) -> None:
    """What came before it does not count, nor do the pieces of the frame itself (promise 2)."""
    writers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        while not (events := protocol.events_received()):
            protocol.receive_data(await reader.read(65_536))
        assert isinstance(events[0], Request)
        protocol.send_response(protocol.accept(events[0]))
        writer.writelines(protocol.data_to_send())
        await writers.put(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, connect(address, create_connection=Watched, proxy=None, close_timeout=5.0) as client:
        assert isinstance(client, Watched)
        writer = await writers.get()
        sent = b""
        for part in parts:
            writer.write(part)
            sent += part
            await eventually(lambda sent=sent: client.received.endswith(sent[-100:]), what="it has arrived")  # type: ignore[misc]  # bound early
        writer.close()
        with pytest.raises(ConnectionClosed):
            await drained(client)
        assert client.closed_at is not None
        assert client.late_bytes == late
        assert (client.close_code, client.close_reason) == (4403, "revoked")


async def drained(client: Watched) -> None:
    """Read until the end."""
    while True:
        await client.recv()
