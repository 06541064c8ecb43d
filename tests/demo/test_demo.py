"""The demonstration as the installed program, and what is left of it however it ends."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, environment
from tests.support.admin import execute
from tests.support.fixtures import DatabaseFactory
from tests.support.polling import until
from tests.support.processes import alive, children

COMMANDS = ["upgrade", "serve", "start", "verify", "cutover", "rollback", "cutover", "complete"]
"""What an operator would type for it, in order."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that PostgreSQL's user can enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-test-demo-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def start(temporary: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demonstration, on a machine whose settings name stores that are none of its business."""
    return subprocess.Popen(
        [*COMMAND, "demo", *arguments],
        cwd=folder,
        env=environment(
            TMPDIR=str(temporary),
            HOLDFAST_SQLITE_PATH=str(folder / "configured.db"),
            DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
            HOLDFAST_PORT="not a port",
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has them ignore Ctrl-C, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no other thread holds a lock
    )


def test_nothing_is_lost_and_nothing_is_left(temporary: Path, tmp_path: Path) -> None:
    """Demo: four clients through two cut-overs; the journals agree with the store, and only what was kept is left."""
    kept = tmp_path / "kept"
    process = start(temporary, tmp_path, "--clients", "4", "--seconds", "1", "--json", "--keep", str(kept))
    printed, told = process.communicate(timeout=250)
    assert process.returncode == 0, told
    outcome = json.loads(printed)
    assert outcome["clean"] is True
    assert outcome["acknowledged"] > 8
    assert outcome["sockets"] == 4
    assert [outcome[each] for each in ("lost", "invented", "sockets_dropped", "logged_out")] == [0, 0, 0, 0]
    assert [each for each in told.split() if each in COMMANDS] == COMMANDS
    assert len(list((kept / "journals").iterdir())) == 5
    assert outcome["by_old_application"] > 80
    assert b"session-" not in (kept / "sessions.db").read_bytes()
    assert "hfs_" not in "".join(each.read_text() for each in kept.rglob("*.jsonl"))
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "configured.db").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
def test_what_it_started_dies_with_it(temporary: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Demo: ended in the middle, even by SIGKILL, it leaves no process and no file."""
    process = start(temporary, tmp_path, "--clients", "4")
    until(lambda: any(temporary.rglob("postmaster.pid")), what="PostgreSQL starts", deadline=60)
    below = children(process.pid)
    assert len(below) >= 2
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    until(lambda: not any(alive(each.pid) for each in below), what="all processes are gone", deadline=30)
    until(lambda: not any(temporary.iterdir()), what="the folder is gone", deadline=30)
    assert process.returncode in (-signal.SIGKILL, 1)


@pytest.mark.soak
def test_a_server_that_is_killed_is_no_success(temporary: Path, tmp_path: Path) -> None:
    """Demo: sockets that really drop are counted, and the exit code says so."""
    process = start(temporary, tmp_path, "--clients", "4", "--seconds", "7", "--json")

    def opened() -> int:
        return sum("opened" in each.read_text() for each in temporary.rglob("client-*.jsonl"))

    until(lambda: opened() == 4, what="the sockets are open", deadline=60)
    (server,) = [each for each in children(process.pid) if "serve" in each.cmdline()]
    os.kill(server.pid, signal.SIGKILL)
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert printed, told
    outcome = json.loads(printed)
    assert outcome["clean"] is False
    assert outcome["sockets_dropped"] == 4
    assert outcome["logged_out"] >= 4
    assert outcome["lost"] == 0


@pytest.mark.soak
def test_the_whole_of_it(temporary: Path, tmp_path: Path) -> None:
    """Demo: as `make demo` runs it, within two minutes."""
    process = start(temporary, tmp_path, "--json")
    printed, told = process.communicate(timeout=125)
    assert process.returncode == 0, told
    assert json.loads(printed)["sockets"] == 100


def test_a_folder_in_use_is_refused(temporary: Path, tmp_path: Path) -> None:
    """Demo: `--keep` writes into no folder that has something in it."""
    (tmp_path / "there").write_text("something")
    process = start(temporary, tmp_path, "--keep", str(tmp_path))
    assert process.wait(60) == 2
    assert "not an empty folder" in process.communicate()[1]


@pytest.mark.soak
def test_a_database_that_is_given_stays_as_it_was(
    temporary: Path, tmp_path: Path, postgres_database: DatabaseFactory
) -> None:
    """Demo: with `--postgres` it uses a schema of its own, and drops it even when it is killed."""
    address = postgres_database()

    def schemas() -> list[list[str]]:
        return execute(address, "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1")

    before = schemas()
    process = start(temporary, tmp_path, "--clients", "4", "--seconds", "1", "--postgres", address)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 0, told
    assert schemas() == before
    process = start(temporary, tmp_path, "--clients", "4", "--postgres", address)
    until(lambda: any(temporary.rglob("client-001.jsonl")), what="clients are there", deadline=60)
    assert schemas() != before
    process.kill()
    process.communicate()
    until(lambda: schemas() == before, what="the schema is gone", deadline=30)
