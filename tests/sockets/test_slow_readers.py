"""Clients that stop reading, as a frozen phone does, and what they cost the server."""

import asyncio
import re
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its types are a package of their own

from tests.concurrency.place import Place
from tests.sockets.server import Server, running
from tests.support import processes
from tests.support.polling import eventually

ROOT = Path(__file__).parents[2]
READERS = 20


def ended(server: Server) -> list[str]:
    """The codes of the floods that are over."""
    return re.findall(r"WEBSOCKET /flood (1\d{3})\b", server.written())


async def test_a_frozen_client_is_cut_off(tmp_path: Path) -> None:
    """F-33, S-47: floods whose reader is stopped by a signal: all closed, their connections gone, memory flat."""
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    settings = {"DATABASE_URL": place.address, "PYTHONPATH": str(ROOT)}
    async with (
        place.manager() as manager,
        running(tmp_path, "server", settings, "tests.sockets.streaming") as server,
    ):
        new = await manager.create_session("u1")
        reader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.sockets.reader"),
            *(server.address.replace("http://", "ws://") + "/flood", new.token, str(READERS)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert reader.stdout is not None
            assert await reader.stdout.readline() == b"reading\n"
            watched = psutil.Process(server.process.pid)

            def connections() -> int:
                return sum(each.status == "ESTABLISHED" for each in watched.net_connections("tcp"))

            assert connections() >= READERS
            before = watched.memory_info().rss
            processes.freeze(reader.pid)
            largest = 0

            def cut_off() -> bool:
                nonlocal largest
                largest = max(largest, watched.memory_info().rss)
                return len(ended(server)) == READERS

            await eventually(cut_off, what="all are cut off", deadline=60)
            # Not only told: the connections are gone, though the client never answers.
            await eventually(lambda: connections() == 0, what="their connections are gone", deadline=30)
            assert largest - before < 30 * 1024 * 1024
            # The guard does it. On a busy machine the keepalive beneath may come first where a pong was under way.
            assert ended(server).count("1013") > READERS // 2
            assert (await server.get("/healthz")).status_code == 200
        finally:
            processes.thaw(reader.pid)
            reader.kill()
            await reader.wait()
