"""What an operator does to the commands of a move that no page tells him to do, and what they say then."""

import asyncio
import gc
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from holdfast import SessionManager
from holdfast.move.status import StatusReader
from holdfast.sql import schema
from tests.cli.command import COMMAND, environment, run
from tests.cli.moving import Program
from tests.conftest import MigratedDatabases

NOBODY = "postgresql://holdfast:hunter2@127.0.0.1:1/app"
SLOW = """
import builtins, os, sys, threading, signal
real = builtins.__import__
def slowly(name, *rest, **more):
    if name == "holdfast.cli.commands" or (name == "holdfast.cli" and "commands" in str(rest)):
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest, **more)
builtins.__import__ = slowly
from holdfast.cli.main import main
main()
"""


@pytest_asyncio.fixture
async def move(tmp_path: Path, migrated_database: MigratedDatabases) -> Program:
    """The program on a file with some sessions, whose path has a space in it, and an empty database."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    path = folder / "sessions.db"
    await schema.upgrade(path)
    async with SessionManager(path, sweep_interval=None) as manager:
        for number in range(3):
            await manager.create_session(f"u{number}")
    return Program(folder, path, migrated_database(None))


def python(folder: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run some Python that runs the program."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_ctrl_c_while_the_program_is_loaded_shows_no_traceback(tmp_path: Path) -> None:
    """CLI: whoever changes his mind at once is told that it stopped, with exit code 1, and not where in Python."""
    ran = python(tmp_path, SLOW, "move", "status")
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "holdfast: stopped\n")


def test_ctrl_c_after_all_is_said_changes_no_exit_code(tmp_path: Path) -> None:
    """CLI: a command that is stopped while Python takes itself apart has ended as it said."""
    late = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    ran = python(tmp_path, f"{late}; from holdfast.cli.main import main; main()", "--version")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_terminal_that_knows_few_letters_gets_the_numbers_of_the_others(tmp_path: Path) -> None:
    """CLI: what a terminal's encoding does not have ends no command in the middle of its output."""
    ran = subprocess.run(
        [*COMMAND, "doctor", "--sqlite", "no such.db"],
        cwd=tmp_path,
        env=environment(PYTHONIOENCODING="latin-1"),
        capture_output=True,
        encoding="latin-1",
        timeout=30,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    assert "\\u2192 the first start makes it" in ran.stdout


@contextmanager
def begun(move: Program, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that somebody watches, and may stop."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=move.folder,
        env=environment(DATABASE_URL=move.address, HOLDFAST_SQLITE_PATH=str(move.path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,  # noqa: PLW1509 - one thread
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


async def test_a_watched_status_can_go_into_a_pipe(move: Program) -> None:
    """CLI: --watch into a pipe prints what has changed, as it changes, and Ctrl-C ends it with 1 and a sentence."""
    await move("start", "--no-backup")
    with begun(move, "move", "status", "--watch") as process:
        assert process.stdout is not None
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(8)]
        assert lines[0].split() == ["move", "following"]
        process.send_signal(signal.SIGINT)
        said = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 1
    assert "stopped" in said[1]
    assert "Traceback" not in said[1]


async def test_status_says_why_a_store_is_away_and_what_comes_first(move: Program, tmp_path: Path) -> None:
    """CLI: a store that does not answer is named with its reason, and `next` is to bring it back, not another step."""
    await move("start", "--no-backup")
    away = await move.json("status", "--postgres", NOBODY, "--sqlite", str(move.path), code=4)
    assert away["away"] == ["postgresql"]
    assert "nobody listens there" in away["obstacles"][0]
    assert "hunter2" not in str(away)
    assert away["next"].startswith("bring PostgreSQL back")
    shown = await move("status", "--postgres", NOBODY, "--sqlite", str(move.path), code=4)
    assert "under way, and how far is not known" in shown
    missing = await move.json("status", "--sqlite", str(tmp_path / "no such.db"), "--postgres", move.address, code=4)
    assert missing["away"] == ["sqlite"]
    assert "no such.db cannot be opened" in missing["obstacles"][0]
    assert missing["next"].startswith("bring SQLite back")


async def test_a_file_that_the_move_is_not_from_is_found_by_whoever_looks(move: Program, tmp_path: Path) -> None:
    """CLI: plan, status and doctor say of another file what every step would be refused for; nothing is changed."""
    await move("start", "--no-backup")
    other = tmp_path / "other.db"
    await schema.upgrade(other)
    both = ("--sqlite", str(other), "--postgres", move.address)
    planned = await move.json("plan", *both, code=4)
    assert "from another SQLite file" in planned["refusals"][0]["what"]
    status = await move.json("status", *both, code=4)
    assert "from another SQLite file" in status["obstacles"][0]
    assert "from another SQLite file" in (await move("start", *both, code=4) + move.said)
    doctor = run(
        "doctor",
        folder=move.folder,
        DATABASE_URL=move.address,
        HOLDFAST_SQLITE_PATH=str(other),
        SESSION_DB_TYPE="sqlite",
    )
    assert doctor.returncode == 3
    assert "from another SQLite file" in doctor.stdout
    # And the right one still fits.
    assert (await move.json("status"))["obstacles"] == []


async def test_plan_in_the_midst_of_a_move_names_the_step_that_is_next(move: Program) -> None:
    """CLI: plan beside a move that goes on says what `status` says comes next, and not to start once more."""
    for command, following in (("start", "holdfast move verify"), ("cutover", "holdfast move complete")):
        await move(command, "--no-backup")
        await move("plan")
        assert f"next: {following}" in move.said


async def test_nothing_is_sealed_where_no_old_application_writes(move: Program) -> None:
    """CLI: seal on a native file is refused before it happens too, and --dry-run says the same as the command."""
    await move("start", "--no-backup")
    for extra in ((), ("--dry-run",)):
        await move("seal", *extra, code=4)
        assert "nothing to seal" in move.said


async def test_start_in_the_midst_of_an_abort_does_not_claim_that_something_is_copied(move: Program) -> None:
    """CLI: start ends the abort that was begun, says so, and begins nothing; given again, it begins a move."""
    await move("start", "--no-backup")
    await move.in_postgresql("UPDATE holdfast_move SET phase = 'aborting'")
    assert "to its own end" in await move("start", "--dry-run")
    await move("start", "--no-backup", code=4)
    assert "the end of the move that was begun is done; next: holdfast move plan" in move.said
    assert (await move.json("start", "--no-backup"))["status"]["copied"] == 3


async def test_a_store_is_named_once_in_a_message(move: Program) -> None:
    """CLI: a message does not say twice which store it is about."""
    for name, value in (("HOLDFAST_SQLITE_PATH", str(move.folder / "no.db")), ("DATABASE_URL", f"{move.address}_none")):
        for command in ("verify", "plan"):
            await move(command, code=4, **{name: value})
            assert "SQLite file: SQLite" not in move.said
            assert "PostgreSQL: PostgreSQL" not in move.said


async def test_a_look_that_is_broken_off_leaves_no_words_behind(
    move: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """A status that nobody waits for any more fails in silence: Ctrl-C must not end in a traceback."""
    async with StatusReader(move.path, move.address) as reader:
        asked = asyncio.Event()

        async def fails_when_stopped(_: bool) -> Any:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise OSError("the connection is closed") from None

        reader._postgresql.ask = fails_when_stopped  # type: ignore[method-assign, assignment]  # a driver's own clean-up fails so
        looking = asyncio.create_task(reader.read())
        await asked.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
    del looking
    gc.collect()
    assert "never retrieved" not in caplog.text
