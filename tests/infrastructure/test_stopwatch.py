"""The stopwatch of the tests tells a program that is slow from a machine that is."""

import asyncio
import time

from tests.support.stopwatch import Stopwatch


async def test_it_counts_what_the_loop_computes() -> None:
    """A program that computes for too long is slow, however late that makes its loop."""
    watch, began = Stopwatch(), time.thread_time()
    while time.thread_time() - began < 0.2:
        pass
    await asyncio.sleep(0)
    assert watch.seconds > 0.19


async def test_it_counts_what_is_waited_for() -> None:
    """A loop that has nothing to do is not one that cannot run."""
    watch, meanwhile = Stopwatch(), 0.0
    while meanwhile < 0.2:
        began = time.monotonic()
        await asyncio.sleep(0.01)  # a wait is what is measured
        took = time.monotonic() - began
        # A late turn says nothing of an idle loop.
        meanwhile += took if took < 0.012 else 0.0
    # No timer is quite on time.
    assert watch.seconds > 0.1


async def test_it_does_not_count_what_the_loop_could_not_run() -> None:
    """To the loop a thread that sleeps is what a machine is whose processors are with others."""
    watch, began = Stopwatch(), time.monotonic()
    time.sleep(0.5)  # noqa: ASYNC251 - the loop is to stand still
    stood = time.monotonic() - began
    assert watch.seconds < 0.1
    await asyncio.sleep(0.02)
    assert watch.seconds < time.monotonic() - began - stood + 0.1
