"""Callers that ask again and again, and what they waited."""

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Sample:
    """What one slice of a run measured. Latencies are in milliseconds."""

    per_second: float
    median: float
    p99: float

    @classmethod
    def of(cls, latencies: Sequence[float], seconds: float) -> "Sample":
        """From the latencies of all calls, in seconds."""
        assert latencies, "not one call was answered"
        ordered = sorted(latencies)
        return cls(len(ordered) / seconds, ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3)


class Contender(Protocol):
    """Who is measured: Holdfast or a peer."""

    name: str

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
