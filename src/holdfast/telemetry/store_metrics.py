"""The numbers of the manager and its store. Every label has a fixed set of values; none names anybody."""

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from holdfast.sessions.errors import (
    AuthorityMoved,
    OutcomeUnknown,
    Overloaded,
    StoreRefused,
    StoreUnavailable,
    TooManySessions,
)
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.observer import Observer
from holdfast.sessions.session import END_REASONS, End

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CALLS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
JOINED: Final = ("touch", "touch_by_id", "create", "write")
PLAIN: Final = ("read", "write", "look", "tell")
# In this order: the first that an error is an instance of. What is none of them is a defect.
ERRORS: Final = (
    ("outcome_unknown", OutcomeUnknown),
    ("overloaded", Overloaded),
    ("authority_moved", AuthorityMoved),
    ("unavailable", StoreUnavailable),
    ("refused", StoreRefused),
    ("cap", TooManySessions),
)
DEFECT: Final = "defect"


class StoreMetrics(Observer):
    """Turns what an observer is told into numbers on a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Every series is there from the first scrape on, so that a rate can be taken of the first event too."""
        self._batches = Histogram(
            "holdfast_store_batch_calls",
            "Calls that shared one batch.",
            ("kind",),
            buckets=CALLS,
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "holdfast_store_batch_seconds",
            "From sending a batch to its answer, commit included.",
            ("kind",),
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_wait = Histogram(
            "holdfast_store_batch_wait_seconds",
            "How long the first call of a batch had waited when it was sent.",
            ("kind",),
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_failures = Counter(
            "holdfast_store_batches_failed",
            "Batches that failed as a whole; most are sent again, and their callers never know.",
            ("kind",),
            registry=registry,
        )
        self._call_seconds = Histogram(
            "holdfast_store_call_seconds",
            "Calls that are not joined, from the call to its answer, waiting and retries included.",
            ("kind",),
            buckets=SECONDS,
            registry=registry,
        )
        self._errors = Counter(
            "holdfast_store_errors",
            "Errors that callers were given, by kind.",
            ("kind",),
            registry=registry,
        )
        self._ends = Counter(
            "holdfast_sessions_ended",
            "Sessions that this process ended, or noted to have run out, by reason.",
            ("reason",),
            registry=registry,
        )
        self._sweeps = Counter(
            "holdfast_sweeps", "Passes of the sweep, by how they went.", ("outcome",), registry=registry
        )
        self._swept = Counter(
            "holdfast_sweep_sessions",
            "Sessions that the sweep marked as run out, and ended ones that it deleted.",
            ("what",),
            registry=registry,
        )
        self._sweep_seconds = Gauge(
            "holdfast_sweep_duration_seconds", "How long the last complete pass of the sweep took.", registry=registry
        )
        self._sweep_success = Gauge(
            "holdfast_sweep_last_success_timestamp_seconds",
            "When the sweep last completed a pass; 0 before the first.",
            registry=registry,
        )
        # Looked up once: `labels` takes a lock each time.
        self._of_batches = {
            kind: tuple(each.labels(kind) for each in (self._batches, self._batch_seconds, self._batch_wait))
            for kind in JOINED
        }
        self._of_calls = {kind: self._call_seconds.labels(kind) for kind in PLAIN}
        for kind in JOINED:
            self._batch_failures.labels(kind)
        for kind in (*(name for name, _ in ERRORS), DEFECT):
            self._errors.labels(kind)
        for reason in END_REASONS:
            self._ends.labels(reason)
        for outcome in ("complete", "failed"):
            self._sweeps.labels(outcome)
        for what in ("marked", "deleted"):
            self._swept.labels(what)

    def joined(
        self, kind: str, calls: int, waited: float, seconds: float, error: Exception | None, contexts: Sequence[object]
    ) -> None:
        """See `Observer`."""
        sizes, durations, waits = self._of_batches[kind]
        sizes.observe(calls)
        durations.observe(seconds)
        waits.observe(waited)
        if error is not None:
            self._batch_failures.labels(kind).inc()

    def called(self, kind: str, seconds: float, error: BaseException | None) -> None:
        """See `Observer`."""
        self._of_calls[kind].observe(seconds)

    def failed(self, error: Exception) -> None:
        """See `Observer`."""
        self._errors.labels(error_kind(error)).inc()

    def ended(self, ends: Sequence[End]) -> None:
        """See `Observer`."""
        for reason, count in Tally(end.reason for end in ends).items():
            self._ends.labels(reason).inc(count)

    def swept(self, marked: int, deleted: int, seconds: float) -> None:
        """See `Observer`."""
        self._sweeps.labels("complete").inc()
        self._swept.labels("marked").inc(marked)
        self._swept.labels("deleted").inc(deleted)
        self._sweep_seconds.set(seconds)
        self._sweep_success.set_to_current_time()

    def sweep_failed(self) -> None:
        """See `Observer`."""
        self._sweeps.labels("failed").inc()


def error_kind(error: Exception) -> str:
    """The label of an error."""
    return next((name for name, kind in ERRORS if isinstance(error, kind)), DEFECT)


class ManagerCollector(Collector):
    """What is only asked for when somebody scrapes: the manager's plain counts, and the store's load."""

    def __init__(self, manager: SessionManager) -> None:
        """Register it once."""
        self._manager = manager

    def collect(self) -> Iterator[Metric]:
        """The numbers now. Asks no database."""
        counts = self._manager.counts
        yield CounterMetricFamily("holdfast_creates", "Sessions created.", counts.created)
        yield CounterMetricFamily("holdfast_validates", "Validates that found a live session.", counts.validated)
        refused = CounterMetricFamily(
            "holdfast_validates_refused",
            "Validates that found none: the token was malformed (no database was asked), or no live session has it.",
            labels=("reason",),
        )
        refused.add_metric(("malformed",), counts.malformed)
        refused.add_metric(("not_live",), counts.not_live)
        yield refused
        yield CounterMetricFamily(
            "holdfast_replays",
            "Uses of a token that rotation had replaced and whose successor was used.",
            self._manager.replays.count,
        )
        load = self._manager.load()
        for name, description, value in (
            ("queued_calls", "Calls that wait to be sent to the store.", load and load.queued),
            ("batches_in_flight", "Batches that were sent and not answered yet.", load and load.in_flight),
            ("connections", "Connections to the store that there may be.", load and load.connections),
            ("connections_in_use", "Connections to the store that are lent out.", load and load.in_use),
        ):
            yield GaugeMetricFamily(f"holdfast_store_{name}", description, value or 0)
