"""How many sessions are live, counted now and then: a scrape never makes the database count."""

import asyncio
import logging
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from holdfast.sessions.background import Background
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.manager import SessionManager

# After a failure: the store may be back sooner than the next count is due.
_AGAIN_SECONDS: Final = 5.0

log = logging.getLogger("holdfast.telemetry")


class ActiveSessions:
    """One task that asks for the exact number, and gauges that show the last answer and its age."""

    def __init__(self, manager: SessionManager, registry: CollectorRegistry, interval: float | None) -> None:
        """`interval` is in seconds, from one count to the next; `None` never counts."""
        self._manager = manager
        self._counting = (
            None if interval is None else Background(lambda: self._run(interval), "holdfast-active-sessions")
        )
        self._counted: float | None = None
        gauge = Gauge(
            "holdfast_active_sessions",
            "Live sessions in the store at the last count; NaN before the first.",
            registry=registry,
        )
        gauge.set(float("nan"))
        self._gauge = gauge
        age = Gauge(
            "holdfast_active_sessions_age_seconds",
            "How long ago they were counted; NaN before the first count.",
            registry=registry,
        )
        age.set_function(self._age)

    def start(self) -> None:
        """Begin to count in the running loop."""
        if self._counting is not None:
            self._counting.start()

    async def stop(self) -> None:
        """End. Safe to repeat."""
        if self._counting is not None:
            await self._counting.stop()

    async def count(self) -> bool:
        """Ask the store once; whether it answered."""
        try:
            number = await self._manager.get_active_session_count()
        except HoldfastError as error:
            log.debug("the live sessions could not be counted: %s", type(error).__name__)
            return False
        self._gauge.set(number)
        self._counted = asyncio.get_running_loop().time()
        return True

    async def _run(self, interval: float) -> None:
        while True:
            counted = await self.count()
            await asyncio.sleep(interval if counted else min(interval, _AGAIN_SECONDS))

    def _age(self) -> float:
        if self._counted is None:
            return float("nan")
        return asyncio.get_running_loop().time() - self._counted
