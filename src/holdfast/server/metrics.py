"""Numbers for Prometheus, on a registry of our own. No label names a user, a session or an address."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from holdfast.server.moving import MoveCollector, MoveWatch
from holdfast.sessions.manager import SessionManager
from holdfast.telemetry.active_sessions import ActiveSessions
from holdfast.telemetry.several import Several
from holdfast.telemetry.spans import spans
from holdfast.telemetry.store_metrics import ManagerCollector, StoreMetrics
from holdfast.version import package_version
from holdfast.web.closing import CODES

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG_BUCKETS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
EVENTS: Final = ("created", "validated", "refused")
REFUSALS: Final = ("unauthenticated", "forbidden", "too many", "overloaded", "unavailable", "restart", "internal")


class Metrics:
    """What one process counts."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        """`ready` is asked whenever somebody scrapes."""
        self._registry = CollectorRegistry()
        Info("holdfast_build", "What runs here.", registry=self._registry).info({"version": package_version()})
        self._requests = Counter(
            "holdfast_http_requests",
            "Requests by method, route template and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "holdfast_http_request_seconds",
            "From request to the end of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._sessions = Counter(
            "holdfast_sessions",
            "Sessions created and validated, and credentials or tokens refused.",
            ("event",),
            registry=self._registry,
        )
        for event in EVENTS:
            # Present from the first scrape on, so that a rate can be taken of the first event too.
            self._sessions.labels(event)
        self._refused_handshakes = Counter(
            "holdfast_handshakes_refused",
            "WebSocket handshakes refused, by reason.",
            ("reason",),
            registry=self._registry,
        )
        for reason in REFUSALS:
            self._refused_handshakes.labels(reason)
        self._closed_sockets = Counter(
            "holdfast_sockets_closed",
            "Guarded sockets closed, by code, whichever side closed them.",
            ("code",),
            registry=self._registry,
        )
        for code in (*map(str, sorted(CODES)), "other"):
            self._closed_sockets.labels(code)
        self._lag = Histogram(
            "holdfast_event_loop_lag_seconds",
            "How late the event loop is, looked at twice a second.",
            buckets=_LAG_BUCKETS,
            registry=self._registry,
        )
        gauge = Gauge("holdfast_ready", "Whether the store answers: 1 or 0.", registry=self._registry)
        gauge.set_function(lambda: float(ready()))

    def sessions(self, manager: SessionManager, interval: float | None) -> ActiveSessions:
        """Show what a manager and its store do, from its next `open` on; also as spans where OpenTelemetry's API is.

        Answers what counts the live sessions, every `interval` seconds while it runs; `None` for never.
        """
        numbers, traced = StoreMetrics(self._registry), spans()
        manager.observe(numbers if traced is None else Several(numbers, traced))
        self._registry.register(ManagerCollector(manager))
        return ActiveSessions(manager, self._registry, interval)

    def sockets(self, open_sockets: Callable[[], int], pushed: Callable[[], bool]) -> None:
        """Show how many sockets are open, and whether ends made elsewhere are pushed here; asked at each scrape."""
        gauge = Gauge("holdfast_sockets_open", "Guarded sockets that are open.", registry=self._registry)
        gauge.set_function(open_sockets)
        gauge = Gauge(
            "holdfast_ends_pushed",
            "Whether other servers' ends are pushed here: 1, or 0 while they are polled for or nothing listens.",
            registry=self._registry,
        )
        gauge.set_function(lambda: float(pushed()))

    def move(self, watch: MoveWatch | None) -> None:
        """Show how a move stands, as a watch sees it; `None` only names the numbers."""
        self._registry.register(MoveCollector(watch))

    def handshake_refused(self, reason: str) -> None:
        """Count a refused handshake, for one of the guard's fixed words."""
        self._refused_handshakes.labels(reason).inc()

    def socket_closed(self, code: int) -> None:
        """Count a closed socket. A code without a meaning here is `other`: clients choose it freely."""
        self._closed_sockets.labels(str(code) if code in CODES else "other").inc()

    def lag(self, seconds: float) -> None:
        """Count one look at the event loop."""
        self._lag.observe(seconds)

    def event(self, name: str) -> None:
        """Count one of `EVENTS`."""
        self._sessions.labels(name).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. A method nobody knows is `other`: clients choose it freely."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    @property
    def registry(self) -> CollectorRegistry:
        """Everything that is counted here."""
        return self._registry

    async def show(self, _: Request) -> Response:
        """`GET /metrics`."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
