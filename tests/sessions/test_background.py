"""A task beside the calls: how it stops, and what is heard of its failure."""

import asyncio
import logging

import pytest

from holdfast.sessions.background import Background


async def test_it_stops_wherever_it_waits() -> None:
    """When `stop` returns the task has ended, its own clean-up included; it may be stopped and started again."""
    steps: list[str] = []
    waiting = asyncio.Event()

    async def run() -> None:
        waiting.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            steps.append("ended")

    background = Background(run, "of-a-test")
    await background.stop()
    for ends in (1, 2):
        background.start()
        await waiting.wait()
        waiting.clear()
        await background.stop()
        await background.stop()
        assert steps == ["ended"] * ends


async def test_a_failure_is_told_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever stops a task that failed goes on with what else there is to close; the log has the failure."""
    failed = asyncio.Event()

    async def run() -> None:
        failed.set()
        raise ValueError("a defect")

    background = Background(run, "of-a-test")
    background.start()
    await failed.wait()
    with caplog.at_level(logging.ERROR, "holdfast.sessions"):
        await background.stop()
    assert "of-a-test had failed" in caplog.text
    assert "a defect" in caplog.text
