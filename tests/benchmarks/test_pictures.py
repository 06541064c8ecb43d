"""The pictures of a result."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.callers import Sample
from benchmarks.pictures.draw import draw
from benchmarks.pictures.svg import chart, logarithmic

_NAME = "{http://www.w3.org/2000/svg}"


def result() -> dict[str, Any]:
    """As the file of a run has it."""
    sample = vars(Sample.of([0.001 * each for each in range(1, 2_001)], 1.0))
    return {
        "settings": {"callers": 100},
        "samples": {"postgresql": [sample, sample], "asyncpg": [sample], "sqlite3": [sample]},
        "callers": {"postgresql": {"1": [100.0], "10": [900.0, 1_000.0]}, "redis": {"1": [20.0], "10": [50_000.0]}},
    }


def parsed(picture: str) -> ET.Element:
    """A picture as a tree; an error when it is none."""
    return ET.fromstring(picture)  # noqa: S314 - our own text


def test_a_result_becomes_a_picture_of_latencies_and_one_of_callers(tmp_path: Path) -> None:
    """Each has a line for every contender that belongs into it, named in the legend."""
    latency, callers = draw(result(), tmp_path, "run")
    for path, names in (
        (latency, {"Holdfast on PostgreSQL", "asyncpg, one UPDATE each"}),
        (callers, {"Holdfast on PostgreSQL", "redis-benchmark GETEX, nothing on disk"}),
    ):
        root = parsed(path.read_text())
        assert len(root.findall(f"{_NAME}polyline")) == 2
        assert names <= {each.text for each in root.findall(f"{_NAME}text")}


def test_a_result_without_figures_becomes_no_picture(tmp_path: Path) -> None:
    """Such as that of the socket bars alone."""
    assert draw({"settings": {"callers": 100}, "bars": {}}, tmp_path, "run") == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_peer_is_called_cannot_break_the_picture() -> None:
    """Text in a picture is text."""
    axis = logarithmic("<&", 1, 10)
    root = parsed(chart("a < b & c", axis, axis, {"<script>": [(1.0, 10.0)]}))
    assert root.findtext(f"{_NAME}title") == "a < b & c"
    assert not root.findall("script")
