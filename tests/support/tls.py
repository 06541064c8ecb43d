"""TLS in front of a server that has none.

The wheel's PostgreSQL is built without OpenSSL.  The client's side of encryption - asking for it,
checking the certificate, refusing to go without - can be tested all the same, against an end of
the encrypted connection that is written here.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from tests.support import packets
from tests.support.admin import with_place
from tests.support.ports import LOOPBACK, free_port
from tests.support.wire import GSS_REQUEST, TLS_REQUEST


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for loopback and its key, as PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def create(cls, directory: Path) -> Certificate | None:
        """Make one, good for two days, or `None` where there is no program `openssl`."""
        program = shutil.which("openssl")
        if program is None:
            return None
        made = cls(directory / "server.crt", directory / "server.key")
        subprocess.run(
            [
                *(program, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost"),
                *("-keyout", str(made.key), "-out", str(made.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        return made


class TlsFront:
    """Encrypts the way to one server; clients that do not ask for TLS are turned away."""

    def __init__(self, address: str, certificate: Certificate) -> None:
        self.port = free_port()
        self.encrypted = 0
        self._upstream = address
        self._certificate = certificate
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    def address(self, mode: str = "verify-full") -> str:
        """The server's address through this front, with an `sslmode` that clients understand."""
        through = with_place(self._upstream, LOOPBACK, self.port)
        if mode.startswith("verify"):
            return f"{through}?sslmode={mode}&sslrootcert={quote(str(self._certificate.certificate))}"
        return f"{through}?sslmode={mode}"

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

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            code, _ = await packets.read_startup(reader)
            if code == GSS_REQUEST:
                writer.write(b"N")
                code, _ = await packets.read_startup(reader)
            if code != TLS_REQUEST:
                writer.write(packets.error("28000", "connection requires encryption"))
                return
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.encrypted += 1
            parts = urlsplit(self._upstream)
            upstream = await asyncio.open_connection(parts.hostname, parts.port)
            ways = [
                asyncio.create_task(_pour(reader, upstream[1])),
                asyncio.create_task(_pour(upstream[0], writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                upstream[1].close()
        except (OSError, EOFError):
            # Among them the client that does not like our certificate.
            pass
        finally:
            writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
