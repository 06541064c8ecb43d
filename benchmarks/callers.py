"""Callers that ask again and again, and what they waited."""

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

SPECTRUM: Final = (0.0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)
"""The percentiles that are kept of a slice, for the picture of its latencies."""


@dataclass(frozen=True)
class Sample:
    """What one slice of a run measured. Latencies are in milliseconds."""

    per_second: float
    median: float
    p99: float
    spectrum: tuple[float, ...] = ()
    """The latencies at the percentiles of `SPECTRUM`; empty where a peer's own program does not tell them."""

    @classmethod
    def of(cls, latencies: Sequence[float], seconds: float, *, sampled: float = 1.0) -> "Sample":
        """From the latencies of all calls, in seconds, or of the sampled share of them."""
        assert latencies, "not one call was answered"
        ordered = sorted(latencies)
        spectrum = tuple(round(_at(ordered, each) * 1e3, 4) for each in SPECTRUM)
        return cls(len(ordered) / seconds / sampled, _at(ordered, 50) * 1e3, _at(ordered, 99) * 1e3, spectrum)


class Contender(Protocol):
    """Who is measured: Holdfast or a peer."""

    @property
    def name(self) -> str:
        """As the results call it, with what was chosen for it."""

    async def measure(self, callers: int, seconds: float) -> Sample:
        """Let so many callers ask for so long."""


async def load(call: Callable[[str], Awaitable[object]], tokens: Sequence[str], callers: int, seconds: float) -> Sample:
    """Each caller draws a token uniformly, waits for the answer, and draws again. Garbage collection stays on."""
    assert gc.isenabled()
    latencies: list[float] = []
    began = time.perf_counter()
    until = began + seconds

    async def caller() -> None:
        before = time.perf_counter()
        while before < until:
            await call(random.choice(tokens))
            after = time.perf_counter()
            latencies.append(after - before)
            before = after

    await asyncio.gather(*(caller() for _ in range(callers)))
    return Sample.of(latencies, time.perf_counter() - began)


def _at(ordered: Sequence[float], percentile: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percentile / 100))]
