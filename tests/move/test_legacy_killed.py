"""A legacy file is moved by movers that are killed, while the old application and Holdfast write beside them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast import SessionManager
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.move.legacy_place import LegacyPlace, fill
from tests.move.old_writing import start, stopped
from tests.move.test_killed import Run

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")

OWN = ("install", "walk", "reverse", "enter", "remove")
"""The steps of which a legacy file makes something else than a native one."""


class LegacyRun(Run):
    """As for a native file; a mover is killed at some steps only, if they are given."""

    async def pursue_some(self, steps: tuple[str, ...] | None, *goals: str) -> int:
        """As `pursue`."""
        if steps is None:
            return await self.pursue(*goals)
        with self.seen.open("a") as lines:
            for goal in goals:
                for step in ALL - set(steps):
                    lines.write(f"{goal}: {step}\n{goal}: {step} done\n")
        return await self.pursue(*goals)

    def _seen_all(self, goal: str) -> None:
        """Which steps there are to come to depends on what was written meanwhile."""


ALL = {
    *("prepare", "install", "walk", "gather", "begin", "copy", "apply", "renew", "verify", "prune", "cut", "flip"),
    *("settle", "decide", "open", "reverse", "consume", "fence", "give back", "enter", "follow", "completing"),
    *("remove", "end", "aborting", "pulse", "keep"),
}


@asynccontextmanager
async def serving(manager: SessionManager, tokens: list[str]) -> AsyncIterator[tuple[Counter[str], list[str]]]:
    """A caller that validates and creates until it is told to stop; what was acknowledged."""
    counted, made, stop = Counter[str](), list[str](), asyncio.Event()

    async def call(number: int) -> None:
        turn = number
        while not stop.is_set():
            turn += 1
            token = tokens[turn % len(tokens)]
            assert await manager.validate_session(token) is not None, "a live session was not found"
            counted[token] += 1
            if turn % 20 == 0:
                made.append((await manager.create_session(f"new-{number}")).token)
            await asyncio.sleep(0.005)

    calls = [asyncio.create_task(call(number)) for number in range(2)]
    try:
        yield counted, made
    finally:
        stop.set()
        await asyncio.gather(*calls)


async def moved(place: LegacyPlace, directory: Path, steps: tuple[str, ...] | None) -> None:
    """There, back and there again, and every acknowledged write is found."""
    old = OldSessionManager(place.path)
    shared = [old.create_session(f"u{number}") for number in range(12)]
    odd = place.bytes_of_rows()
    run = LegacyRun(place, directory)
    stop = directory / "stop-old"
    processes = [await start(place.path, shared, seed, stop) for seed in range(2)]
    async with place.following() as manager:
        async with serving(manager, shared) as (counted, made):
            kills = await run.pursue_some(steps, "start", "verify")
            said = await stopped(processes, stop)
            kills += await run.pursue_some(steps, "cut_over", "roll_back")
        assert kills >= 8
        assert not [each["errors"] for each in said if each["errors"]]
        await place.lapse()
        async with place.mover() as mover:
            await mover.run()
            assert (await mover.verify()).clean
        for token in shared:
            session = await manager.get_session(token)
            assert session is not None
            assert session.request_count == counted[token] + sum(each["counted"][token] for each in said)
        for token in [*made, *(token for each in said for token in each["made"])]:
            assert await manager.get_session(token) is not None, "an acknowledged session is lost"
        for token in [token for each in said for token in each["ended"]]:
            assert await manager.get_session(token) is None, "a session came back"
        after = place.bytes_of_rows()
        touched = {("text", token.encode().hex().upper()) for token in shared}
        assert {key: row for key, row in odd.items() if key not in touched} == {
            key: after[key] for key in odd.keys() - touched
        }
        await run.pursue_some(steps, "cut_over", "complete")
        assert await manager.validate_session(shared[0]) is not None
        assert not place.in_sqlite("SELECT count(*) FROM sessions")[0][0]


@pytest.mark.timeout(300)
async def test_a_legacy_file_survives_a_killed_mover(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """Move 1, 15, I2, I3, I6: killed at each step that is its own, no acknowledged write of anybody is lost."""
    place = LegacyPlace(legacy_file(tmp_path / "sessions.db"), migrated_database(None))
    token = OldSessionManager(place.path).create_session("u1")
    place.in_sqlite("UPDATE sessions SET metadata = '{no json', request_count = 'x' WHERE session_id = ?", token)
    await moved(place, tmp_path, OWN)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_a_legacy_file_survives_every_kill(
    tmp_path: Path, migrated_database: MigratedDatabases, journal_mode: str
) -> None:
    """Move 1, I2, I3, I6: the same at every step, in both journal modes."""
    path = legacy_file(tmp_path / "sessions.db", journal_mode)
    fill(path)
    await moved(LegacyPlace(path, migrated_database(None)), tmp_path, None)
