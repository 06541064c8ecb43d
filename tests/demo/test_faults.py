"""What the demonstration's processes do where this machine, or one of them, is slow or dies."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.demo import watchdog
from holdfast.demo.asking import LOOPBACK, ask
from holdfast.demo.cast import Cast
from holdfast.demo.client import Client
from holdfast.demo.journal import Journal
from holdfast.demo.processes import Children
from holdfast.demo.progress import Progress
from holdfast.demo.tally import Tally

STARTING = b'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 15\r\n\r\n{"ready":false}'
READY = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"ready":true}'


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """The port of a server that gives these answers, one to a connection, and then closes it."""
    left = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(left))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("sent", [b"", READY[:20], READY[:40], READY[:-1]], ids=["none", "status", "head", "body"])
async def test_half_an_answer_is_none(sent: bytes) -> None:
    """Demo: a server killed in the midst of an answer leaves what was asked unknown, wherever it was cut."""
    async with answering(sent, READY, b"HTTP/1.1 204 No Content\r\n\r\n") as port:
        with pytest.raises(ConnectionError):
            await ask(port, "GET", "/readyz")
        assert await ask(port, "GET", "/readyz") == (200, {"ready": True})
        assert await ask(port, "GET", "/readyz") == (204, {})


async def test_a_token_is_brought_again_where_nobody_answers(tmp_path: Path) -> None:
    """Demo: a client whose first question has no answer asks again, and does not end all others."""
    known = b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"id":"a"}'
    async with answering(b"", known) as port:
        with Journal(tmp_path / "client.jsonl", 0.0) as journal:
            client = Client("client-001", port, "", journal, Tally(), asyncio.Event(), random.Random(1))
            login = await client._known("token")
    assert login is not None
    assert login.id == "a"


async def test_a_server_is_found_however_much_it_has_said_since(tmp_path: Path) -> None:
    """Demo: one that takes long to be ready logs each question after it, until where it listens is no last word."""
    async with answering(STARTING, READY) as port:
        cast = Cast(Children(tmp_path), Progress(lambda _: None), 1)
        log = tmp_path / "server.log"
        log.write_text(f"listening on http://{LOOPBACK}:{port}\n")
        assert not await cast._ready()
        with log.open("a") as more:
            more.write("GET /readyz 503 0.3 ms\n" * 1000)
        assert await cast._ready()


def test_a_folder_that_a_dying_process_writes_to_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Demo: what was written while the folder was being deleted goes too."""
    folder, real, calls = tmp_path / "folder", shutil.rmtree, 0

    def interrupted(path: str, *, ignore_errors: bool) -> None:
        nonlocal calls
        calls += 1
        real(path, ignore_errors=ignore_errors)
        if calls == 1:
            folder.mkdir()
            (folder / "late").touch()

    folder.mkdir()
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    watchdog.remove(str(folder))
    assert not folder.exists()
