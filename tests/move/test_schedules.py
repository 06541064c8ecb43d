"""Seeded schedules: whatever the callers do and wherever the movers fall over, every acknowledged write is found."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from holdfast.sql import schema
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import legacy_file
from tests.move.bench import Place
from tests.move.legacy_place import LegacyPlace
from tests.move.legacy_schedule import LegacySchedule
from tests.move.old_writing import OldProcess
from tests.move.schedule import Outcome, Schedule
from tests.support.soaked import Tell

__all__ = ["berlin"]
# The old application writes local times.
pytestmark = pytest.mark.usefixtures("berlin")

AT_ONCE = 2
A_TENTH = 100
FEW = 10
ALL = 1000
MANY = 50
EVERY_FIFTH = 5
"""One schedule of so many has an old application."""


async def run(seeds: range, directory: Path, emptied_database: MigratedDatabases) -> Outcome:
    """Run the schedules of some seeds, a few at a time; what they did together."""
    empty = directory / "empty.db"
    await schema.upgrade(empty)
    waiting, total = list(seeds), Outcome()

    def schedule(seed: int, address: str, old: OldProcess) -> tuple[Place, Schedule]:
        path = directory / f"{seed}.db"
        if seed % EVERY_FIFTH == EVERY_FIFTH - 1:
            legacy = LegacyPlace(legacy_file(path, ("delete", "wal")[seed // EVERY_FIFTH % 2]), address)
            return legacy, LegacySchedule(legacy, seed, old)
        shutil.copy(empty, path)
        place = Place(path, address)
        return place, Schedule(place, seed)

    async def worker() -> None:
        address = emptied_database(None)
        old = OldProcess()
        try:
            while waiting:
                seed = waiting.pop(0)
                place, one = schedule(seed, address, old)
                try:
                    total.add(await one.run())
                except BaseException as error:
                    error.add_note(f"schedule {seed}")
                    raise
                await place.forget()
        finally:
            await old.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return total


def report(seeds: range, outcome: Outcome, seconds: float) -> str:
    """The numbers, for whoever runs the soak."""
    return (
        f"{len(seeds)} schedules from {seeds.start} in {seconds:.0f} s; "
        f"acknowledged {outcome.acknowledged.total()}: {dict(outcome.acknowledged)}; "
        f"refused {dict(outcome.refused)}; movers {dict(outcome.moved)}; lost 0"
    )


async def held(first: int, number: int, directory: Path, emptied_database: MigratedDatabases, tell: Tell) -> None:
    """Run some schedules, tell of them, and see that they were worth it."""
    begun, seeds = time.monotonic(), range(first, first + number)
    outcome = await run(seeds, directory, emptied_database)
    tell(report(seeds, outcome, time.monotonic() - begun))
    assert outcome.acknowledged["create"] > 3 * number
    assert outcome.acknowledged["old create"]
    assert outcome.moved["killed"] + outcome.moved["paused"] > number / 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, A_TENTH, FEW))
async def test_a_hundred_schedules(first: int, tmp_path: Path, emptied_database: MigratedDatabases, tell: Tell) -> None:
    """Move 15: the first seeds of the thousand, in blocks that the processes of a test run share."""
    await held(first, FEW, tmp_path, emptied_database, tell)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(A_TENTH, ALL, MANY))
async def test_a_thousand_schedules(
    first: int, tmp_path: Path, emptied_database: MigratedDatabases, tell: Tell
) -> None:
    """Move 15: the other nine hundred."""
    await held(first, MANY, tmp_path, emptied_database, tell)
