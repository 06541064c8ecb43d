"""How long something took, not counting how long the machine kept this process from running."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

INTERVAL = 0.005
"""Seconds between two looks at the event loop. A wait that is shorter is counted as the program's own."""


class Stopwatch:
    """Counts the seconds in which this event loop could have worked, from when it is made.

    What a test says of a deadline is said of the program. Its event loop is late by what it computes itself, which
    counts, and by what it waits for a processor that others have, or for a disk below it, which does not: on a machine
    with two processors and four times the work that is at times more than any slack one would want to grant.
    """

    def __init__(self, *servers: int) -> None:
        """Start. What these processes wait for a processor does not count either, where the system tells."""
        self._meter = _meter_of(asyncio.get_running_loop())
        self._servers = servers
        self._begun = time.monotonic()
        self._stood = self._lost()

    @property
    def seconds(self) -> float:
        """Seconds since it was made, less those in which the loop could not run although it had to."""
        return time.monotonic() - self._begun - (self._lost() - self._stood)

    def _lost(self) -> float:
        return self._meter.stood() + sum(map(waited, self._servers))


def waited(pid: int) -> float:
    """Seconds that the threads of a process were ready to run and did not, so far; none where Linux does not count."""
    total = 0
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                total += int((each / "schedstat").read_text().split()[1])
    return total / 1e9


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
