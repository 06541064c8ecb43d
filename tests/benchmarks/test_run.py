"""`python -m benchmarks --quick` runs from end to end with tiny numbers, without Redis."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.callers import Sample
from benchmarks.report import ratios, table
from tests.support.fixtures import DatabaseFactory

ROOT = Path(__file__).resolve().parents[2]


def quick_run(address: str, folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What a run of a few seconds prints, and what its file holds."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--no-redis", "--output", str(folder), *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HOLDFAST_BENCH_DATABASE_URL": address},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    (written,) = folder.glob("*.json")
    # Neither a password nor an address of the database that was used.
    assert address not in written.read_text()
    return done.stdout, json.loads(written.read_text())


def test_a_quick_run_prints_a_table_and_writes_a_file(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """Every bar that needs no Redis has a ratio, and the file says where and how it was measured."""
    bars = "B1", "B2", "B3", "B5", "B6", "B7", "B8", "orm"
    printed, result = quick_run(postgres_database(), tmp_path, "--bars", *bars)
    assert "B1 has no peer" in printed
    assert set(result["bars"]) == {*bars} - {"B1"}
    assert all(bar["median"] > 0 for bar in result["bars"].values())
    assert result["settings"]["sessions"] == 200
    assert result["conditions"]["event_loop"].startswith("asyncio")
    assert result["conditions"]["garbage_collection"] is True
    assert {"fsync", "synchronous_commit"} <= result["postgresql"].keys()
    assert {"holdfast", "python", "sqlite", "asyncpg", "commit"} <= result["versions"].keys()


def test_a_quick_run_of_the_bars_about_many_rows(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """B9 and B12: active sessions among many, and a sweep beside them; the file says how much log was written."""
    _, result = quick_run(postgres_database(), tmp_path, "--bars", "B9", "B12")
    assert set(result["bars"]) == {"B9 newest", "B9 spread", "B12 p99", "B12 rate", "B12 time"}
    assert set(result["rows"]["log_bytes_a_validate"]) == {"few", "newest", "spread", "uniform"}
    assert all(each > 0 for (each,) in result["rows"]["log_bytes_a_validate"].values())
    assert result["sweep"]["deleted"] == 2_000


def test_a_quick_run_of_the_move(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """B13: a store moves under writes, all of which are answered; the file says how long each step took."""
    _, result = quick_run(postgres_database(), tmp_path, "--bars", "B13")
    assert set(result["bars"]) == {"B13 time", "B13 wait", "B13 memory"}
    assert result["move"]["application"]["failed"] == 0
    assert result["move"]["steps"]["verify"]["rows"] >= 2_000
    assert {"flip", "settle", "decide", "open"} <= set(result["move"]["steps"]["cut_over"]["steps_seconds"])


@pytest.mark.soak
def test_a_quick_run_of_how_cost_grows(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """`--scale` fills each size, and says what a session costs there in disk, log, memory and time.

    Left to the soak, as are the socket bars: nobody but who measures runs it, and it takes twelve seconds.
    """
    printed, result = quick_run(postgres_database(), tmp_path, "--scale")
    (each,) = result["scale"]
    assert each["sessions"] == 400
    assert each["disk_bytes"]["total"] > 0
    assert each["one_process"]["10"]["log_bytes"] > 0
    assert 0 <= each["in_page_share"] <= 1
    assert each["two_processes"]["per_second"] > 0
    assert each["count_ms"] > 0
    assert each["memory_bytes"]["loaded"] > each["memory_bytes"]["library"] > 0
    assert each["sweep"]["deleted"] > 0
    assert "bytes of disk" in printed


def test_contenders_run_alone(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """Their rates, compared with nothing; one that cannot be had is a sentence, not a failure."""
    printed, result = quick_run(postgres_database(), tmp_path, "--only", "orm", "redis")
    assert set(result["samples"]) == {"orm"}
    assert result["bars"] == {}
    assert "SQLAlchemy ORM" in printed
    assert "--no-redis" in printed


@pytest.mark.soak
def test_a_quick_run_of_the_socket_bars(postgres_database: DatabaseFactory, tmp_path: Path) -> None:
    """B10 and B11 alone: sockets open, echo and close in processes of their own, and the file has both sides.

    Left to the soak for its fifteen seconds.
    """
    printed, result = quick_run(postgres_database(), tmp_path, "--bars", "B10", "B11")
    stores = ("postgresql", "sqlite")
    parts = {"B10 memory", *(f"{bar} p99, {store}" for bar in ("B10", "B11") for store in stores)}
    assert set(result["bars"]) == parts
    assert all(part in printed for part in parts)
    (idle,) = result["sockets"]["idle"]
    assert all(idle[side]["bytes_each"] > 0 for side in ("plain", "guarded"))
    (slices,) = result["sockets"]["busy"]
    assert set(slices) == {"plain", *stores}
    assert all(0 < each["median"] <= each["p99"] <= each["longest"] for each in slices.values())
    # Nothing was filled for the other bars.
    assert "contenders" not in result


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
