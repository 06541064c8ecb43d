"""How the move between this server's two stores stands: looked at every second, shown to whoever asks."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from holdfast.move.status import PHASES, MoveStatus, StatusReader
from holdfast.sessions.background import Background
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.timestamps import timestamp

INTERVAL: Final = 1.0
_GOOD_FOR: Final = 10.0
"""What was seen is shown for so many seconds; after that nobody knows."""
# Rows are counted by reading an index: often only while somebody watches them being copied.
_COUNT_EVERY: Final = 60.0
_COUNT_WHILE_COPYING: Final = 5.0
_STORES: Final = ("sqlite", "postgresql")
_NAN: Final = float("nan")

_NUMBERS: Final[tuple[tuple[str, str, Callable[[MoveStatus], float | None]], ...]] = (
    ("waiting", "Whether writes wait for a decision: 1 or 0.", lambda seen: seen.waiting),
    ("epoch", "Grows with every change of authority.", lambda seen: seen.epoch),
    ("lag_changes", "Changes that one store has and the other not yet, up to 100,000.", lambda seen: seen.lag),
    ("rows", "Rows of the store that has the authority, counted now and then.", lambda seen: seen.rows),
    ("copied_rows", "Rows of the other store, counted now and then.", lambda seen: seen.copied),
    (
        "quarantined_rows",
        "Rows of an application's own table that became no session.",
        lambda seen: seen.quarantined,
    ),
    (
        "verified_timestamp_seconds",
        "When all rows were last compared and none differed.",
        lambda seen: None if seen.verified_at is None else seen.verified_at.timestamp(),
    ),
)

log = logging.getLogger("holdfast.server")


class MoveWatch:
    """One task that looks at both stores, and what it saw."""

    def __init__(
        self,
        reader: StatusReader,
        serving: Callable[[], str | None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`serving` says which store this process serves from, if any; `monotonic` and `pause` are for tests."""
        self._reader = reader
        self._serving = serving
        self._monotonic = monotonic
        self._pause = pause
        self._seen: MoveStatus | None = None
        self._seen_at = -math.inf
        self._counted_at = -math.inf
        self._failure = ""
        self._looking = Background(self._run, "holdfast-move-watch")

    @property
    def serving(self) -> str | None:
        """Which store this process serves from; `None` while it serves from none."""
        return self._serving()

    @property
    def status(self) -> MoveStatus | None:
        """What was seen a moment ago; `None` when that is too long ago, or nothing was seen yet."""
        return self._seen if self._monotonic() - self._seen_at <= _GOOD_FOR else None

    @property
    def phase(self) -> str:
        """The phase, `none` without a move, or `unknown`."""
        status = self.status
        if status is None or "postgresql" in status.away:
            return "unknown"
        return status.phase or "none"

    def start(self) -> None:
        """Begin to look in the running loop."""
        self._looking.start()

    async def stop(self) -> None:
        """End. Safe to repeat."""
        await self._looking.stop()
        await self._reader.close()

    async def look(self) -> None:
        """Look once. Never raises, but when it is cancelled."""
        now = self._monotonic()
        copying = self._seen is not None and self._seen.phase in ("preparing", "copying")
        count = now - self._counted_at >= (_COUNT_WHILE_COPYING if copying else _COUNT_EVERY)
        try:
            seen = await self._reader.read(count=count)
        except HoldfastError as error:
            if str(error) != self._failure:
                log.warning("how the move stands cannot be seen: %s", error)
            self._failure = str(error)
            return
        except Exception:
            log.exception("how the move stands could not be looked at")
            return
        self._failure = ""
        if count:
            self._counted_at = now
        elif self._seen is not None and seen.authority == self._seen.authority:
            counts = {name: getattr(self._seen, name) for name in ("rows", "copied", "quarantined", "quarantined_live")}
            seen = replace(seen, **counts)
        else:
            self._counted_at = -math.inf
        self._seen, self._seen_at = seen, self._monotonic()

    def brief(self) -> dict[str, Any]:
        """For anyone: what holds no number of sessions."""
        status = self.status
        return {
            "serving": self.serving,
            "authority": status and status.authority,
            "phase": self.phase,
            "waiting": status and status.waiting,
            "epoch": status and status.epoch,
            "lag": status and status.lag,
        }

    def whole(self) -> dict[str, Any]:
        """For the operator: `null` where nobody knows."""
        status = self.status
        verified = None if status is None else status.verified_at
        return self.brief() | {
            "rows": status and status.rows,
            "copied": status and status.copied,
            "verified_at": None if verified is None else timestamp(verified),
            "quarantined": status and status.quarantined,
            "away": [] if status is None else list(status.away),
        }

    async def _run(self) -> None:
        while True:
            await self.look()
            await self._pause(INTERVAL)


class MoveCollector(Collector):
    """What was last seen, when somebody scrapes; what nobody knows is NaN. Without a watch nothing is known."""

    def __init__(self, watch: MoveWatch | None) -> None:
        """Register it once."""
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """The numbers now. Asks no database."""
        status = None if self._watch is None else self._watch.status
        serving, phase = (None, "unknown") if self._watch is None else (self._watch.serving, self._watch.phase)
        authority = None if status is None else status.authority
        yield _one_of("store", "authority", "Which store has the authority: 1 for that one.", _STORES, authority)
        yield _one_of("store", "serving", "From which store this process serves: 1 for that one.", _STORES, serving)
        phases = (*PHASES, "none", "unknown")
        yield _one_of("phase", "phase", "How far the move is: 1 for that phase, `none` without a move.", phases, phase)
        for name, description, value in _NUMBERS:
            shown = None if status is None else value(status)
            yield GaugeMetricFamily(f"holdfast_move_{name}", description, _NAN if shown is None else float(shown))


def _one_of(label: str, name: str, description: str, values: tuple[str, ...], value: str | None) -> Metric:
    family = GaugeMetricFamily(f"holdfast_move_{name}", description, labels=(label,))
    for each in values:
        family.add_metric((each,), float(each == value))
    return family
