"""Seeded schedules: whatever the callers do and wherever the movers fall over, every acknowledged write is found."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from holdfast.sql import schema
from tests.conftest import MigratedDatabases
from tests.move.bench import Place
from tests.move.schedule import Outcome, Schedule

AT_ONCE = 4
FEW = 6
MANY = 1000
BLOCK = 50


async def run(seeds: range, directory: Path, migrated_database: MigratedDatabases) -> Outcome:
    """Run the schedules of some seeds, a few at a time; what they did together."""
    empty = directory / "empty.db"
    await schema.upgrade(empty)
    waiting, total = list(seeds), Outcome()

    async def worker() -> None:
        address = migrated_database(None)
        while waiting:
            seed = waiting.pop(0)
            place = Place(directory / f"{seed}.db", address)
            shutil.copy(empty, place.path)
            try:
                total.add(await Schedule(place, seed).run())
            except BaseException as error:
                error.add_note(f"schedule {seed}")
                raise
            await place.forget()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return total


def report(schedules: int, outcome: Outcome, seconds: float) -> str:
    """The numbers, for whoever runs the test with `-s`."""
    return (
        f"{schedules} schedules in {seconds:.0f} s; acknowledged {outcome.acknowledged.total()}: "
        f"{dict(outcome.acknowledged)}; refused {dict(outcome.refused)}; movers {dict(outcome.moved)}; lost 0"
    )


async def test_a_few_schedules(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """Move 15: the first seeds of the thousand."""
    begun = time.monotonic()
    outcome = await run(range(FEW), tmp_path, migrated_database)
    print(report(FEW, outcome, time.monotonic() - begun))  # noqa: T201 - the numbers
    assert outcome.acknowledged["create"] > 10 * FEW
    assert outcome.moved["killed"]


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, MANY, BLOCK))
async def test_a_thousand_schedules(first: int, tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """Move 15, in full, in blocks."""
    begun = time.monotonic()
    outcome = await run(range(first, first + BLOCK), tmp_path, migrated_database)
    print(report(BLOCK, outcome, time.monotonic() - begun))  # noqa: T201 - the numbers
    assert outcome.moved["killed"] > BLOCK / 4
