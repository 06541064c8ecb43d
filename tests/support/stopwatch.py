"""How long something took, not counting how long the machine kept this process from running."""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

INTERVAL = 0.005
"""Seconds between two looks at the event loop. A wait that is shorter is counted as the program's own."""


class Stopwatch:
    """Counts the seconds in which this event loop could have worked, from when it is made.

    What a test says of a deadline is said of the program. Its event loop is late by what it computes itself, which
    counts, and by what it waits for a processor that others have, or for a disk below it, which does not: on a machine
    with two processors and four times the work that is at times more than any slack one would want to grant.
    """

    def __init__(self) -> None:
        self._meter = _meter_of(asyncio.get_running_loop())
        self._begun = time.monotonic()
        self._stood = self._meter.stood()

    @property
    def seconds(self) -> float:
        """Seconds since it was made, less those in which the loop could not run although it had to."""
        return time.monotonic() - self._begun - (self._meter.stood() - self._stood)


class _Meter:
    """Looks every few milliseconds whether a loop is late, and how much of that it did not compute itself.

    It is no task: tests look at those.
    """

    def __init__(self) -> None:
        self._stood = 0.0
        self._look_again()

    def stood(self) -> float:
        """Seconds so far, those of the look that is due included."""
        late = time.monotonic() - self._due
        return self._stood + max(0.0, late - (time.thread_time() - self._computed))

    def _look(self) -> None:
        self._stood = self.stood()
        self._look_again()

    def _look_again(self) -> None:
        self._due = time.monotonic() + INTERVAL
        self._computed = time.thread_time()
        # No reference to the loop is kept, which has to be free to go.
        asyncio.get_running_loop().call_later(INTERVAL, self._look)


_meters: WeakKeyDictionary[asyncio.AbstractEventLoop, _Meter] = WeakKeyDictionary()


def _meter_of(loop: asyncio.AbstractEventLoop) -> _Meter:
    meter = _meters.get(loop)
    if meter is None:
        meter = _meters[loop] = _Meter()
    return meter
