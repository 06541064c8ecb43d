"""From samples to ratios: one line a bar, with the goal beside it and no verdict."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from benchmarks.callers import Sample


@dataclass(frozen=True)
class Bar:
    """One bar of the product's page, section 7."""

    name: str
    """As on that page, and which part of it; its first word is what `--bars` takes."""
    what: str
    goal: str
    """`-` where there is none."""
    ours: str
    peer: str
    figure: str
    """The attribute of a sample that is compared: `per_second`, `median` or `p99`."""


_VALIDATE = "validate on PostgreSQL against"
BARS = (
    Bar("B1", f"{_VALIDATE} Redis GETEX, nothing on disk", ">= 1.0", "postgresql", "redis", "per_second"),
    Bar("B2", "the same against one asyncpg UPDATE per call", ">= 6", "postgresql", "asyncpg", "per_second"),
    Bar("B3", "the same against pgbench -M prepared, in C", ">= 3", "postgresql", "pgbench", "per_second"),
    Bar(
        "B4 starsessions", "the same against starsessions on Redis", ">= 5", "postgresql", "starsessions", "per_second"
    ),
    Bar("B4 Litestar", "the same against Litestar's sessions", ">= 60", "postgresql", "litestar", "per_second"),
    Bar("B4 Django", "the same against Django's sessions", ">= 50", "postgresql", "django", "per_second"),
    Bar("B5", "p99 of the same against p99 of asyncpg", "<= 0.1", "postgresql", "asyncpg", "p99"),
    Bar("B6", "one caller alone: median latency against asyncpg", "<= 1.25", "postgresql-1", "asyncpg-1", "median"),
    Bar("B7", "validate on SQLite against one commit per validate", ">= 10", "sqlite", "sqlite3", "per_second"),
    Bar("B8", "durable creates against validates", ">= 0.5", "postgresql-creates", "postgresql", "per_second"),
    Bar("pipelined", f"{_VALIDATE} Redis GETEX, 16 in a pipeline", "-", "postgresql", "redis-pipelined", "per_second"),
    Bar("durable", f"{_VALIDATE} Redis GETEX, as durable", "-", "postgresql", "redis-durable", "per_second"),
    Bar("orm", f"{_VALIDATE} the ORM's select then update", "-", "postgresql", "orm", "per_second"),
)

Runs = dict[str, list[Sample]]
"""The samples of each contender, one a round, in order."""


@dataclass(frozen=True)
class Ratio:
    """Median and spread of a bar over the rounds; each round compares slices that ran side by side."""

    bar: Bar
    ratios: Sequence[float]
    ours: float
    peer: float

    @property
    def name(self) -> str:
        """The bar's."""
        return self.bar.name

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.ratios)

    @property
    def line(self) -> Sequence[str]:
        """See `Finding`."""
        low, high = min(self.ratios), max(self.ratios)
        return (
            *(self.bar.name, self.bar.goal, f"{_short(self.median)} x", f"{_short(low)} to {_short(high)}"),
            *(_shown(self.ours, self.bar.figure), _shown(self.peer, self.bar.figure), self.bar.what),
        )

    @property
    def kept(self) -> dict[str, Any]:
        """See `Finding`."""
        return {
            "what": self.bar.what,
            "goal": self.bar.goal,
            "ratios": self.ratios,
            "median": self.median,
            "figure": self.bar.figure,
            "ours": self.ours,
            "peer": self.peer,
        }


@dataclass(frozen=True)
class Figures:
    """One part of a bar that is no ratio of two contenders: its figures, one a round, in the unit that its goal has."""

    name: str
    goal: str
    what: str
    figures: Sequence[float]
    unit: Literal["x", "ms", "s", "MB"]
    spread: str
    ours: str
    peer: str

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.figures)

    @property
    def line(self) -> Sequence[str]:
        """See `Finding`."""
        median = f"{self.median:.2f} {self.unit}"
        return (self.name, self.goal, median, self.spread, self.ours, self.peer, self.what)

    @property
    def kept(self) -> dict[str, Any]:
        """See `Finding`."""
        return {
            "what": self.what,
            "goal": self.goal,
            "unit": self.unit,
            "figures": self.figures,
            "median": self.median,
            "ours": self.ours,
            "peer": self.peer,
        }


class Finding(Protocol):
    """What was found about one bar."""

    @property
    def name(self) -> str:
        """The bar, and which part of it when it has several."""

    @property
    def line(self) -> Sequence[str]:
        """Its line of the table: name, goal, median, spread, ours, the peer's, what it is."""

    @property
    def kept(self) -> dict[str, Any]:
        """What the file holds of it."""


def ratios(runs: Runs, bars: Sequence[Bar] = BARS) -> list[Ratio]:
    """Each bar whose two sides were measured."""
    found = []
    for bar in bars:
        if bar.ours in runs and bar.peer in runs:
            ours = [getattr(sample, bar.figure) for sample in runs[bar.ours]]
            peer = [getattr(sample, bar.figure) for sample in runs[bar.peer]]
            each = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
            found.append(Ratio(bar, each, statistics.median(ours), statistics.median(peer)))
    return found


def table(found: Sequence[Finding]) -> str:
    """The table as text."""
    lines = [("bar", "goal", "median", "spread", "Holdfast", "peer", "what"), *(each.line for each in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def _shown(figure: float, kind: str) -> str:
    return f"{figure:,.0f}/s" if kind == "per_second" else f"{figure:.2f} ms"
