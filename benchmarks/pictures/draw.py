"""The pictures of one result: how long calls take, and how many there are with more callers."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.callers import SPECTRUM
from benchmarks.pictures.svg import Axis, chart, logarithmic

NAMES: Final = {
    "postgresql": "Holdfast on PostgreSQL",
    "asyncpg": "asyncpg, one UPDATE each",
    "pgbench": "pgbench -M prepared",
    "redis": "redis-benchmark GETEX, nothing on disk",
    "redis-durable": "redis-benchmark GETEX, appendfsync always",
    "starsessions": "starsessions on Redis, nothing on disk",
    "orm": "SQLAlchemy ORM, select then update",
    "sqlite": "Holdfast on SQLite",
}
"""Who is shown, in this order and these words, whatever size was best for them in the run."""
# SQLite's own latencies have no peer here: plain sqlite3 has one caller.
_LATENCY: Final = tuple(name for name in NAMES if name != "sqlite")
# From here on a slice has too few calls to say anything.
_FROM, _TO = 10.0, 99.9


def draw(result: Mapping[str, Any], folder: Path, stem: str) -> list[Path]:
    """Write the pictures for which the result has figures; their paths."""
    written = []
    for name, picture in _pictures(result):
        path = folder / f"{stem}-{name}.svg"
        path.write_text(picture)
        written.append(path)
    return written


def _pictures(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    samples = result.get("samples", {})
    if lines := _latencies(samples):
        yield "latency", _latency_chart(lines, result["settings"]["callers"])
    if rates := result.get("callers"):
        yield "callers", _callers_chart(rates)


def _latencies(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[tuple[float, float]]]:
    """For each contender the middle round's latency at each percentile."""
    lines = {}
    for contender in _LATENCY:
        rounds = [each["spectrum"] for each in samples.get(contender, ()) if each["spectrum"]]
        if rounds:
            lines[NAMES[contender]] = [
                (percentile, statistics.median(each[at] for each in rounds))
                for at, percentile in enumerate(SPECTRUM)
                if _FROM <= percentile <= _TO
            ]
    return lines


def _latency_chart(lines: Mapping[str, list[tuple[float, float]]], callers: int) -> str:
    every = [value for points in lines.values() for _, value in points]
    up = logarithmic("latency", min(every), max(every), " ms")
    return chart(f"How long a validate takes, {callers} callers", _percentiles(), up, lines)


def _percentiles() -> Axis:
    """The last percents as wide as the others: each mark is a tenth of what is left."""
    low, high = (-math.log10(1 - each / 100) for each in (_FROM, _TO))
    marks = {each: f"p{each:g}" for each in (10.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)}
    return Axis("percentile of all calls", marks, lambda value: (-math.log10(1 - value / 100) - low) / (high - low))


def _callers_chart(rates: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    lines = {
        text: [(float(callers), statistics.median(each)) for callers, each in rates[contender].items()]
        for contender, text in NAMES.items()
        if contender in rates
    }
    numbers = [callers for points in lines.values() for callers, _ in points]
    every = [rate for points in lines.values() for _, rate in points]
    across = logarithmic("callers in one process", min(numbers), max(numbers))
    return chart("Validates a second with more callers", across, logarithmic("a second", min(every), max(every)), lines)
