"""Waiting that a decision can end, in every order of events."""

import asyncio

import pytest

from holdfast.sockets.interruptible import Interruptible


async def test_a_wait_is_left_and_nothing_after_it_runs() -> None:
    """The block ends where it waits, without an error, and the task goes on."""
    waiting = Interruptible()
    steps: list[str] = []

    async def work() -> str:
        with waiting:
            await asyncio.Event().wait()
            steps.append("not reached")
        await asyncio.sleep(0)
        return "done"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    waiting.interrupt()
    waiting.interrupt()
    assert await task == "done"
    assert steps == []


async def test_a_wait_that_has_just_come_true_is_left_as_well() -> None:
    """S-44: room in the buffer and the decision to close in the same turn of the loop: the decision wins."""
    waiting, room = Interruptible(), asyncio.Event()
    written: list[str] = []

    async def send() -> None:
        with waiting:
            await room.wait()
            written.append("too late")

    task = asyncio.create_task(send())
    await asyncio.sleep(0)
    room.set()
    waiting.interrupt()
    await task
    assert written == []


async def test_the_cancellation_of_somebody_else_passes() -> None:
    """A task that is cancelled stays cancelled, whatever is decided at the same time."""
    for interrupted in (False, True):
        waiting = Interruptible()

        async def work(waiting: Interruptible = waiting) -> None:
            with waiting:
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        if interrupted:
            waiting.interrupt()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_decision_from_within_interrupts_nothing() -> None:
    """Whoever decides inside the block is not waiting; its next wait must not fail for it."""
    waiting = Interruptible()
    with waiting:
        waiting.interrupt()
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_outside_the_block_nothing_is_interrupted() -> None:
    """Before and after it the decision is looked at, not felt."""
    waiting = Interruptible()
    waiting.interrupt()
    with waiting:
        await asyncio.sleep(0)
    waiting.interrupt()
    await asyncio.sleep(0)
