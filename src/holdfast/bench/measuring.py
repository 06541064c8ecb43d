"""Creates, validates of many callers, validates of one: what an application would see, and for how long."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from holdfast.bench.places import place_of_its_own
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.manager import SessionManager
from holdfast.settings import Settings

METADATA: Final = {"lang": "en", "theme": "dark", "cart": [1, 2, 3]}
# Shares of the whole time; what is left of it is connecting, and making and removing the tables.
_CREATING: Final = 0.2
_WARMING: Final = 0.05
_VALIDATING: Final = 0.45
_ALONE: Final = 0.15
_ASKING: Final = 0.05


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Times are in milliseconds, as a caller saw them."""

    kind: str
    where: str
    durable: bool
    callers: int
    sessions: int
    """How many sessions the validates were spread over."""
    creates_per_second: float
    validates_per_second: float
    median: float
    p99: float
    alone: float
    """The median of one caller, alone."""
    round_trip: float
    """The median of one caller who asks the database for the time: the way there and back."""


@dataclass(frozen=True, slots=True)
class _Slice:
    per_second: float
    median: float
    p99: float


async def measure(settings: Settings, seconds: float, callers: int) -> Figures:
    """Measure for about so many seconds, in tables of its own that are gone afterwards.

    No session of the application is read or written. Raises what `place_of_its_own` and the calls raise.
    """
    async with place_of_its_own(settings) as place, settings.manager(place.store) as sessions:
        tokens: list[str] = []
        # A user each: a configured cap is looked at, but not reached.
        users = (f"user-{number}" for number in count())

        async def create() -> None:
            tokens.append((await sessions.create_session(next(users), METADATA)).token)

        async def validate() -> None:
            await _validated(sessions, random.choice(tokens))  # noqa: S311 - random load

        async def ask() -> None:
            await place.store.ping()

        creates = await _load(create, callers, seconds * _CREATING)
        await _load(validate, callers, seconds * _WARMING)
        many = await _load(validate, callers, seconds * _VALIDATING)
        alone = await _load(validate, 1, seconds * _ALONE)
        asked = await _load(ask, 1, seconds * _ASKING)
        return Figures(
            *(place.kind, place.where, place.durable, callers, len(tokens), creates.per_second),
            *(many.per_second, many.median, many.p99, alone.median, asked.median),
        )


async def _validated(sessions: SessionManager, token: str) -> object:
    """One validate, every field of the answer read."""
    session = await sessions.validate_session(token)
    if session is None:
        raise HoldfastError("a session ended while it was measured: the configured lifetime is shorter than a run")
    return (
        *(session.id, session.user_id, session.metadata, session.created_at, session.expires_at),
        *(session.last_activity, session.request_count),
    )


async def _load(call: Callable[[], Awaitable[None]], callers: int, seconds: float) -> _Slice:
    """Let so many callers call again and again, each once at least: a machine that stalls has figures too."""
    latencies: list[float] = []
    began = time.perf_counter()

    async def caller() -> None:
        before = time.perf_counter()
        while True:
            await call()
            after = time.perf_counter()
            latencies.append(after - before)
            if after >= began + seconds:
                return
            before = after

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    took = time.perf_counter() - began
    ordered = sorted(latencies)
    middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return _Slice(len(ordered) / took, middle * 1e3, late * 1e3)
