"""`python -m benchmarks --quick` runs from end to end with tiny numbers, without Redis."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.callers import Sample
from benchmarks.report import ratios, table
from tests.support.fixtures import DatabaseFactory

ROOT = Path(__file__).resolve().parents[2]


def test_a_quick_run_prints_a_table_and_writes_a_file(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """Every bar that needs no Redis has a ratio, and the file says where and how it was measured."""
    address = postgres_database()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--no-redis", "--output", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HOLDFAST_BENCH_DATABASE_URL": address},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "B1 has no peer" in done.stdout
    (written,) = tmp_path.iterdir()
    result = json.loads(written.read_text())
    assert set(result["bars"]) == {"B2", "B5", "B6", "B7"}
    assert all(bar["median"] > 0 for bar in result["bars"].values())
    assert result["settings"]["sessions"] == 200
    assert result["conditions"]["event_loop"].startswith("asyncio")
    assert result["conditions"]["garbage_collection"] is True
    assert {"fsync", "synchronous_commit"} <= result["postgresql"].keys()
    assert {"holdfast", "python", "sqlite", "asyncpg", "commit"} <= result["versions"].keys()
    # Neither a password nor an address of the database that was used.
    assert address not in written.read_text()


def test_ratios_compare_slices_of_the_same_round() -> None:
    """A moment in which the whole machine is slow leaves the ratio as it is."""
    ours = [Sample(600, 1.0, 10.0), Sample(60, 10.0, 100.0), Sample(700, 1.0, 10.0)]
    peer = [Sample(100, 5.0, 100.0), Sample(10, 50.0, 1000.0), Sample(100, 5.0, 100.0)]
    by_bar = {ratio.bar.name: ratio for ratio in ratios({"postgresql": ours, "asyncpg": peer})}
    assert set(by_bar) == {"B2", "B5"}
    assert by_bar["B2"].ratios == [6.0, 6.0, 7.0]
    assert by_bar["B2"].median == 6.0
    assert by_bar["B5"].median == pytest.approx(0.1)
    assert "6.00 x" in table(list(by_bar.values()))
