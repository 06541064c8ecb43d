"""Writers write, movers move, and every mover is killed at the first step that no one before it was killed at."""

import asyncio
import json
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.move.bench import Place
from tests.support.polling import eventually

REPOSITORY = Path(__file__).parents[2]

STEPS = {
    "start": ["prepare", "install", "begin", "copy"],
    "verify": ["apply", "renew", "verify", "prune"],
    "cut_over": ["cut", "flip", "settle", "decide", "open"],
    "roll_back": ["reverse", "consume", "fence", "give back", "enter", "follow"],
    "complete": ["completing", "remove", "end"],
    "abort": ["aborting", "remove", "end"],
}
"""The steps that each command has to come to, whatever else it does on its way."""


@dataclass(frozen=True)
class Run:
    """One test's processes and what they note."""

    place: Place
    directory: Path
    writers: int = 3

    @property
    def seen(self) -> Path:
        return self.directory / "seen"

    @property
    def stop(self) -> Path:
        return self.directory / "stop"

    async def _process(self, module: str, *arguments: object) -> asyncio.subprocess.Process:
        line = [sys.executable, "-m", f"tests.move.{module}", self.place.path, self.place.address, *arguments]
        return await asyncio.create_subprocess_exec(
            *map(str, line), cwd=REPOSITORY, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[list[asyncio.subprocess.Process]]:
        """Writers at work, and a watch on who accepts writes. The test may kill some."""
        journals = [self.directory / f"journal-{number}" for number in range(self.writers)]
        writers = [await self._process("writing", each, number, self.stop) for number, each in enumerate(journals)]
        watch = asyncio.create_task(self._watch())
        try:
            await eventually(
                lambda: all(each.exists() and each.stat().st_size > 2000 for each in journals), what="writes"
            )
            yield writers
        finally:
            self.stop.touch()
            ends = [await each.communicate() for each in writers]
            watch.cancel()
            [seen] = await asyncio.gather(watch, return_exceptions=True)
            assert isinstance(seen, asyncio.CancelledError), f"the watch ended: {seen!r}"
        assert {each.returncode for each in writers} <= {0, -signal.SIGKILL}, ends

    async def _watch(self) -> None:
        """I1: at no instant do both stores accept writes. SQLite is asked before and after: its epoch must not move."""
        connection = await asyncpg.connect(self.place.address)
        file = sqlite3.connect(self.place.path, timeout=5)

        def look() -> tuple[str, int]:
            said: tuple[str, int] = file.execute("SELECT authority, epoch FROM holdfast_control").fetchone()
            return said

        try:
            while True:
                before = look()
                # In one statement. Before the first step of all, both are stores that know nothing of each other.
                accepts = await connection.fetchval(
                    "SELECT authority = 'here' AND epoch > 1 AND EXISTS (SELECT FROM pg_trigger "
                    "WHERE tgname = 'holdfast_fence' AND tgenabled = 'D') FROM holdfast_control"
                )
                assert not (accepts and before == look() and before[0] == "here"), "both stores accept writes"
                # Looking without a pause would take the processor from those who are looked at.
                await asyncio.sleep(0.005)
        finally:
            connection.terminate()
            file.close()

    async def pursue(self, *goals: str) -> int:
        """For each goal, run movers until one comes to its end; how many were killed."""
        kills = 0
        self.seen.touch()
        movers = await self._process("moving", self.seen)
        assert movers.stdin is not None
        assert movers.stdout is not None
        for goal in goals:
            while True:
                movers.stdin.write(f"{goal}\n".encode())
                async with asyncio.timeout(30):
                    ended = (await movers.stdout.readline()).decode().strip()
                if ended == "0":
                    break
                if ended != str(-signal.SIGKILL):
                    _, errors = await movers.communicate(b"")
                    raise AssertionError(f"{goal} ended with {ended}: {errors.decode()}")
                kills += 1
                await self.place.lapse()
            self._seen_all(goal)
        await movers.communicate(b"")
        return kills

    def _seen_all(self, goal: str) -> None:
        seen = self.seen.read_text().splitlines()
        missing = [s for s in STEPS.get(goal, []) if not {f"{goal}: {s}", f"{goal}: {s} done"} <= set(seen)]
        assert not missing, f"{goal} never came to {missing}"

    async def check(self, serving: str) -> Counter[str]:
        """Every acknowledged write is in the store that serves; what was acknowledged, counted."""
        rows = {}
        columns = "id, request_count, ended_at IS NOT NULL"
        if serving == "sqlite":
            rows = {id: rest for id, *rest in self.place.in_sqlite(f"SELECT {columns} FROM sessions")}
        else:
            found = await self.place.in_postgresql(f"SELECT {columns} FROM sessions")
            rows = {id.hex: rest for id, *rest in map(tuple, found)}
        said: Counter[tuple[str, str]] = Counter()
        for journal in self.directory.glob("journal-*"):
            said.update((what, id.replace("-", "")) for what, id in map(json.loads, journal.read_text().splitlines()))
        total: Counter[str] = Counter()
        for what, id in said:
            total[what] += said[what, id]
        assert not total["missing"], "a live session was not found"
        assert not [what for what in total if "refused" in what], total
        for what, id in said:
            if what == "created":
                assert id in rows, f"session {id} is lost"
                count, ended = rows[id]
                assert said["validated", id] <= count <= said["validate?", id], f"session {id} counts {count}"
                if said["ended", id]:
                    assert ended, f"session {id} came back"
                elif not said["end?", id]:
                    assert not ended, f"session {id} was ended by nobody"
        return total


@pytest.mark.timeout(400)
async def test_a_move_there_and_back_and_there_survives_every_kill(place: Place, tmp_path: Path) -> None:
    """Move 1, 2, I1 to I3, I6: no acknowledged write is lost, none is refused, whatever step a mover is killed at."""
    await place.fill(150)
    run = Run(place, tmp_path)
    async with run.writing() as writers:
        kills = await run.pursue("start", "abort", "start", "verify")
        # What a killed process of the application was told counts too.
        writers[-1].kill()
        kills += await run.pursue("cut_over", "roll_back")
    assert (await run.check("sqlite"))["validated"] > 100
    ours, theirs = await place.both()
    async with place.mover() as mover:
        await place.lapse()
        await mover.run()
        assert (await mover.verify()).clean
    ours, theirs = await place.both()
    assert ours == theirs
    run.stop.unlink()
    again = Run(place, tmp_path / "again")
    again.directory.mkdir()
    again.seen.write_text(run.seen.read_text())
    async with again.writing():
        kills += await again.pursue("cut_over", "complete")
    await again.check("postgresql")
    assert kills > 40
    assert not await place.in_postgresql("SELECT 1 FROM pg_class WHERE relname LIKE 'holdfast_move%'")
    assert not place.in_sqlite("SELECT 1 FROM sqlite_master WHERE name LIKE 'holdfast_move%'")
