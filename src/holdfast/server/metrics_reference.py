"""The page `docs/reference/metrics.md`, made from the registry: `python -m holdfast.server.metrics_reference`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric

from holdfast.memory import MemoryStore
from holdfast.server.metrics import Metrics
from holdfast.sessions.manager import SessionManager

PAGE: Final = Path("docs/reference/metrics.md")

_INTRODUCTION: Final = """\
# Metrics

What `GET /metrics` shows, for Prometheus. Each process counts for itself, from its start. No label names a user, a
session, a token or an address, and every label has a fixed set of values, but for `route` (the server's own route
templates) and `status`. A scrape asks no database: live sessions are counted by one task, every
`HOLDFAST_COUNT_EVERY_SECONDS`, and their number comes with its age.

Kinds of joined calls: `touch` and `touch_by_id` (a validate), `create`, and on SQLite `write`, which is all three and
every other write. Kinds of plain calls: `read`, `write`, `look` (what sockets depend on) and `tell` (other servers,
of ends). `holdfast_move_…` is there only where two stores are named.

See [how to monitor the server](../how-to/monitor.md).

This page is made by `python -m holdfast.server.metrics_reference`.

| name | type | labels | meaning |
|---|---|---|---|
"""


def families() -> Iterator[Metric]:
    """Every family of numbers that a server shows, as it is before the first request."""
    metrics = Metrics(lambda: False)
    manager = SessionManager(MemoryStore(), sweep_interval=None)
    metrics.sessions(manager, None)
    metrics.sockets(lambda: 0, lambda: False)
    metrics.move(None)
    yield from metrics.registry.collect()


def names() -> frozenset[str]:
    """The names of all series, as a query writes them."""
    found: set[str] = set()
    for family in families():
        if family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            found.add(_written(family))
    return frozenset(found)


def page() -> str:
    """The whole page, by name."""
    return _INTRODUCTION + "".join(sorted(map(_row, families())))


def _row(family: Metric) -> str:
    labels: dict[str, set[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le":
                labels.setdefault(label, set()).add(value)
    shown = "; ".join(f"`{label}`: {', '.join(sorted(values))}" for label, values in _fixed(family, labels).items())
    return f"| `{_written(family)}` | {family.type} | {shown} | {family.documentation} |\n"


def _fixed(family: Metric, labels: dict[str, set[str]]) -> dict[str, set[str]]:
    """The labels with their values; those that grow with what is asked for have none yet."""
    if family.name == "holdfast_http_requests":
        return {"method": {"as sent, or other"}, "route": {"the template"}, "status": {"as answered"}}
    if family.name == "holdfast_http_request_seconds":
        return {"route": {"the template"}}
    if family.name == "holdfast_build":
        return {"version": {"of the package"}}
    return labels


def _written(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
