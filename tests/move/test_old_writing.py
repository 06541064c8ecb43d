"""The process of an old application says what it did, however much that is, and never keeps a test waiting."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.legacy.old_application import legacy_file
from tests.move.old_writing import OldProcess

# More than the 64 KiB that asyncio takes for a line.
MANY = [f"session-{number:040}" for number in range(2000)]
HANGS = 60.0


@pytest.fixture
async def old() -> AsyncIterator[OldProcess]:
    """One that is ended in any case."""
    process = OldProcess()
    yield process
    await process.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the old application, without a session."""
    return legacy_file(tmp_path / "sessions.db")


async def test_a_long_answer_arrives(old: OldProcess, file: Path) -> None:
    """What it did is told in one line, which is long where it was refused for a while; and then it writes again."""
    for _ in range(2):
        await old.write(file, MANY, 1)
        assert len((await old.stopped())["counted"]) == len(MANY)


async def test_nobody_waits_for_what_was_said_already(old: OldProcess, file: Path) -> None:
    """To stop one that does not write, or not any more, fails at once instead of waiting for an answer."""
    async with asyncio.timeout(HANGS):
        for _ in range(2):
            with pytest.raises(AssertionError, match="does not write"):
                await old.stopped()
            await old.write(file, MANY[:1], 1)
            await old.stopped()
        with pytest.raises(AssertionError, match="does not write"):
            await old.stopped()
