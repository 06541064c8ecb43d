"""The movable clock wakes exactly who is due."""

import asyncio
from datetime import timedelta

import pytest

from holdfast.testing.clock import MovableClock


async def test_sleepers_wake_when_their_time_is_reached() -> None:
    """Not a microsecond earlier, in the order of their times, and all that are due in one move."""
    clock = MovableClock()
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (30, 10, 20, 10.000001)]
    await clock.until_sleeping(4)
    clock.advance(9.999999)
    await asyncio.sleep(0)
    assert woken == []
    clock.advance(timedelta(microseconds=1))
    await asyncio.sleep(0)
    assert woken == [10]
    clock.advance(10)
    await asyncio.sleep(0)
    assert woken == [10, 10.000001, 20]
    assert clock.sleeping == 1
    clock.advance(timedelta(hours=1))
    await asyncio.gather(*tasks)
    assert clock.sleeping == 0


async def test_no_time_is_no_sleep() -> None:
    """Zero and less give others a turn and return."""
    clock = MovableClock()
    await clock.sleep(0)
    await clock.sleep(-5)
    assert clock.offset == timedelta(0)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    """It no longer counts as asleep, and waking it is no error."""
    clock = MovableClock()
    task = asyncio.create_task(clock.sleep(10))
    await clock.until_sleeping()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleeping == 0
    clock.advance(20)


def test_time_does_not_go_back() -> None:
    """A clock made without a loop moves, and only forward."""
    clock = MovableClock()
    clock.advance(5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
    assert clock.offset == timedelta(seconds=5)
