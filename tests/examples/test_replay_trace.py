"""The main job on real input: a trace of requests, replayed over HTTP against a real server process."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.concurrency.conftest import place_named, process_place
from tests.concurrency.place import Place
from tests.concurrency.serving import APPLICATION, serving
from tests.examples.traces import DAY, Expected, expected, write_trace
from tests.support.admin import execute

__all__ = ["place_named", "process_place"]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "replay_trace.py"
REAL_TRACE = "HOLDFAST_TRACE"
"""Names a real trace to replay as well; the repository holds none."""


@pytest.fixture(params=["made-up", *([os.environ[REAL_TRACE]] if REAL_TRACE in os.environ else [])])
def trace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A trace file: one made up, and the one that HOLDFAST_TRACE names if it names one."""
    if request.param != "made-up":
        return Path(request.param)
    write_trace(tmp_path / "trace.csv")
    return tmp_path / "trace.csv"


def replay(trace: Path, address: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the example."""
    return subprocess.run(
        [sys.executable, str(EXAMPLE), str(trace), "--url", address, *options],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HOLDFAST_APP_TOKEN": APPLICATION},
        timeout=600,
    )


def rows_in(place: Place) -> tuple[int, int]:
    """How many sessions the database holds, and the sum of their counts."""
    query = "SELECT count(*), sum(request_count) FROM sessions"
    if place.kind == "postgresql":
        ((sessions, total),) = execute(place.address, query)
    else:
        with sqlite3.connect(place.address.removeprefix("sqlite:///")) as connection:
            sessions, total = connection.execute(query).fetchone()
        connection.close()
    return int(sessions), int(total)


@pytest.mark.timeout(600)
def test_a_trace_is_replayed_exactly(process_place: Place, trace: Path, tmp_path: Path) -> None:
    """Every request finds its client's session, expiry included; sessions and counts are what the file says."""
    wanted = expected(trace)
    command = ("holdfast.server.testing", "--database", process_place.address)
    with serving(tmp_path, "server", *command) as address:
        done = replay(trace, address)
    assert done.returncode == 0, done.stderr
    numbers = [int(text.replace(",", "")) for text in re.findall(r"  +([\d,]+)$", done.stdout, re.MULTILINE)]
    sessions, _, validates, total, expired = numbers
    assert (sessions, validates, total, expired) == (wanted.sessions, wanted.requests, wanted.requests, wanted.expired)
    # Nothing swept them: the server of the test kit leaves that to the test.
    assert rows_in(process_place) == (wanted.sessions, wanted.requests)


def test_a_wrong_refusal_fails_the_replay(tmp_path: Path) -> None:
    """A server whose sessions end too early is noticed: exit code 1 and the reason."""
    trace = tmp_path / "trace.csv"
    trace.write_text(f"second,client\n0,1\n{DAY - 2},1\n")
    with serving(
        tmp_path, "server", "holdfast.server.testing", settings={"HOLDFAST_SESSION_TTL_HOURS": "1"}
    ) as address:
        done = replay(trace, address)
    assert done.returncode == 1
    assert done.stderr.startswith("REFUSED: a live session was refused")
    assert done.stdout == ""


def test_the_made_up_trace_has_the_shape_of_the_real_one(tmp_path: Path) -> None:
    """It is skewed, has several requests in a second, and has clients that come back after a day."""
    write_trace(tmp_path / "trace.csv")
    rows = (tmp_path / "trace.csv").read_text().splitlines()[1:]
    seconds, clients = zip(*(row.split(",") for row in rows), strict=True)
    wanted = expected(tmp_path / "trace.csv")
    assert len(set(seconds)) < len(rows)
    assert max(map(clients.count, set(clients))) > 5 * len(rows) / len(set(clients))
    assert wanted == Expected(wanted.sessions, len(rows), wanted.expired)
    assert wanted.expired > 20
