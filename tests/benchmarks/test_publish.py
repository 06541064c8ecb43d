"""Results in the documentation."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.publish import BEGIN, END, PAGE, publish, reached
from tests.benchmarks.test_pictures import result as pictured


def result(**changes: Any) -> dict[str, Any]:
    """As the file of a run has it."""
    return {
        **pictured(),
        "settings": {"rounds": 3, "seconds": 1.5, "callers": 100, "sessions": 100_000},
        "machine": {
            "processors": 2,
            "processor": "P",
            "memory_gib": 4,
            "load_average": [0.1, 0.1, 0.1],
            "load_average_after": [0.2, 0.2, 0.2],
        },
        "versions": {"python": "3.11", "sqlite": "3.53", "commit": "abc"},
        "postgresql": {
            "server_version": "18.4",
            "fsync": "on",
            "synchronous_commit": "on",
            "shared_buffers": "128MB",
        },
        "bars": {
            "B10 p99, sqlite": {"goal": "-", "unit": "ms", "figures": [5.0], "median": 5.0},
            "B2": {"goal": ">= 6", "what": "against asyncpg", "ratios": [6.0, 7.0, 8.0], "median": 7.0},
        },
        **changes,
    }


def published(folder: Path, *results: dict[str, Any]) -> str:
    """A page with these results."""
    page = folder / "docs" / "explanation" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text(f"before\n\n{BEGIN}\nearlier figures\n{END}\n\nafter\n")
    paths = [folder / f"{number}.json" for number in range(len(results))]
    for path, each in zip(paths, results, strict=True):
        path.write_text(json.dumps(each))
    publish(paths, page, folder / "docs" / "images")
    return page.read_text()


def test_the_page_has_a_column_for_each_run(tmp_path: Path) -> None:
    """Medians and spreads, whether the goal was reached, the pictures; the rest of the page stays."""
    low = {"B2": {"goal": ">= 6", "what": "against asyncpg", "ratios": [5.0], "median": 5.0}}
    text = published(tmp_path, result(), result(bars=low))
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "earlier" not in text
    assert "| B2 | against asyncpg | >= 6 | 7.00 (6.00 to 8.00) | 5.00 | in 1 of 2 |" in text
    assert text.index("| B2 |") < text.index("| B10 p99, sqlite |")
    assert "not measured" in text
    assert "](../images/performance-latency.svg)" in text
    assert (tmp_path / "docs" / "images" / "performance-callers.svg").exists()
    # Under a name that git keeps.
    assert (tmp_path / "0-cited.json").exists()


def test_a_run_with_scale_becomes_a_table_of_sizes(tmp_path: Path) -> None:
    """A column for each size."""
    measured = {"per_second": 1_000.0, "median": 1.0, "p99": 2.0, "log_bytes": 150.0}
    size = {
        "sessions": 10_000,
        "disk_bytes": {"total": 5_000_000, "sessions": 3_000_000},
        "one_process": {"1": measured, "100": measured},
        "two_processes": measured,
        "in_page_share": 0.99,
        "count_ms": 12.0,
        "memory_bytes": {"library": 1, "loaded": 80_000_000},
        "sweep": {"seconds": 3.0, "during": measured, "without": measured},
    }
    text = published(tmp_path, result(bars={}, scale=[size]))
    assert "| disk for each, with all indexes | 500 bytes |" in text
    assert "| write-ahead log for a validate, 100 callers | 150 bytes |" in text


@pytest.mark.parametrize(
    ("goal", "medians", "said"),
    [
        (">= 6", [6.0, 7.0], "yes"),
        ("<= 10 ms", [11.0, 12.0], "no"),
        ("<= 0.1", [0.05, 0.2], "in 1 of 2"),
        ("-", [1.0], ""),
    ],
)
def test_whether_a_goal_was_reached(goal: str, medians: list[float], said: str) -> None:
    """In all runs, in none, or in some."""
    assert reached(goal, medians) == said


def test_the_page_of_the_documentation_has_its_marks(tmp_path: Path) -> None:
    """So that the next results find their place."""
    page = tmp_path / "docs" / "explanation" / "performance.md"
    page.parent.mkdir(parents=True)
    shutil.copyfile(PAGE, page)
    (tmp_path / "1.json").write_text(json.dumps(result()))
    publish([tmp_path / "1.json"], page, tmp_path / "docs" / "images")
    assert "against asyncpg" in page.read_text()
