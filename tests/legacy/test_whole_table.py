"""Giving a large table its ids at the first start: beside a writer, killed, again, and with what is odd in it."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.legacy.whole_table import WholeTable
from holdfast.sessions.manager import SessionManager
from tests.legacy.old_application import OldSessionManager, legacy_file, local_now, text

ROWS = 8000
KILLED = """
import asyncio, os, signal, sys
from holdfast import SessionManager
from holdfast.legacy.whole_table import WholeTable

def die(name):
    done = getattr(WholeTable, name)
    def dying(self, *arguments):
        done(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(WholeTable, name, dying)

die(sys.argv[2])

async def main():
    async with SessionManager(sys.argv[1], sweep_interval=None):
        pass

asyncio.run(main())
"""


def large(path: Path, rows: int = ROWS, journal_mode: str = "delete") -> Path:
    """A file with so many live sessions of a thousand users, whose order is not that of their keys."""
    legacy_file(path, journal_mode)
    now = local_now()
    with closing(sqlite3.connect(path)) as connection, connection:
        later = (text(now), "2099-01-01 00:00:00", text(now))
        values = ((f"session-{n * 7919 % rows}", f"u{n * 31 % 1000}", "{}", *later, 0) for n in range(rows))
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    return path


async def whole(path: Path, rows: int = ROWS) -> None:
    """Everybody has an id and is found, by token and by user."""
    async with SessionManager(path, sweep_interval=None) as sessions:
        assert await sessions.get_active_session_count() == rows
        for number in (0, 1, rows // 2, rows - 1):
            assert await sessions.validate_session(f"session-{number}")
        assert len(await sessions.list_sessions("u7")) == rows // 1000
        assert await sessions.revoke_user_sessions("u7") == rows // 1000
        assert await sessions.get_active_session_count() == rows - rows // 1000


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_the_old_application_goes_on_meanwhile(tmp_path: Path, journal_mode: str) -> None:
    """What it writes is there, what it deletes is over, and none of its calls waits for long."""
    path = large(tmp_path / "legacy.db", journal_mode=journal_mode)
    old = OldSessionManager(path)
    made: list[str] = []
    longest = 0.0

    def write() -> None:
        nonlocal longest
        while not opened.is_set():
            number, began = len(made), time.monotonic()
            made.append(old.create_session("u7"))
            assert old.delete_session(f"session-{number}")
            assert old.validate_session(f"session-{ROWS - 1 - number}")
            longest = max(longest, (time.monotonic() - began) / 3)

    opened = threading.Event()
    writing = asyncio.create_task(asyncio.to_thread(write))
    sessions = SessionManager(path, sweep_interval=None)
    began = time.monotonic()
    try:
        await sessions.open()
        took = time.monotonic() - began
    finally:
        opened.set()
        await writing
    async with sessions:
        assert await sessions.get_active_session_count() == ROWS
        for token in made:
            assert await sessions.get_session(token)
        for number in range(len(made)):
            assert await sessions.get_session(f"session-{number}") is None
        alive = [n for n in range(ROWS) if n * 31 % 1000 == 7 and n * 7919 % ROWS >= len(made)]
        assert len(await sessions.list_sessions("u7", limit=1000)) == len(alive) + len(made)
    # On an idle machine 0.1 s; this is to notice a lock that is held for the whole of it, or in vain.
    assert longest < max(2.0, took / 6)


@pytest.mark.parametrize("step", ["_adopt", "_own", "_finish"])
async def test_a_killed_start_is_finished_by_the_next(step: str, tmp_path: Path) -> None:
    """SIGKILL within a transaction of each kind."""
    path = large(tmp_path / "legacy.db", 3000)
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, str(path), step], check=False, stderr=subprocess.DEVNULL
    )
    assert died.returncode == -signal.SIGKILL
    assert OldSessionManager(path).validate_session("session-1")
    await whole(path, 3000)


async def test_two_managers_start_at_once(tmp_path: Path) -> None:
    """Both do all of it, and every row has one id."""
    path = large(tmp_path / "legacy.db", 3000)
    async with SessionManager(path, sweep_interval=None) as one, SessionManager(path, sweep_interval=None) as other:
        first, second = await asyncio.gather(one.get_session("session-5"), other.get_session("session-5"))
        assert first is not None
        assert first == second
    await whole(path, 3000)


async def test_what_changed_without_the_triggers_is_noticed(tmp_path: Path) -> None:
    """Rows that came, went, and changed hands while somebody had taken the triggers away."""
    path = large(tmp_path / "legacy.db", 3000)
    async with SessionManager(path, sweep_interval=None) as sessions:
        kept = await sessions.get_session("session-2999")
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'holdfast%row'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM sessions WHERE session_id IN ('session-0', 'session-1500')")
        connection.execute("UPDATE sessions SET user_id = 'new' WHERE session_id IN ('session-1', 'session-2')")
        connection.execute("UPDATE sessions SET expires_at = 'never' WHERE session_id = 'session-3'")
        connection.execute(
            "INSERT INTO sessions SELECT 'came', 'new', metadata, created_at, expires_at, last_activity, 0 "
            "FROM sessions WHERE session_id = 'session-4'"
        )
    async with SessionManager(path, sweep_interval=None) as sessions:
        assert await sessions.get_session("session-2999") == kept
        assert await sessions.why_ended("session-1500") == "revoked"
        assert len(await sessions.list_sessions("new")) == 3
        assert await sessions.get_active_session_count() == 3000 - 2 - 1 + 1
        assert await sessions.revoke_user_sessions("new") == 3


@pytest.mark.parametrize(
    ("expiry", "live"),
    [
        ("2099-01-01T00:00:00", True),
        ("2099-01-01 00:00", True),
        (4_070_908_800, True),
        ("never", False),
        (b"2099", False),
        ("2099-02-30 00:00:00", False),
        ("2000-01-01T00:00:00", False),
        ("{today}T00:00:00", False),
        ("{today}T23:59:59.999999", True),
    ],
)
async def test_a_count_follows_an_expiry_of_any_form(expiry: object, live: bool, tmp_path: Path) -> None:
    """There at the start, changed into it and changed back; counted is what is found."""
    if isinstance(expiry, str):
        expiry = expiry.format(today=local_now().date())
    path = large(tmp_path / "legacy.db", 1000)
    change = "UPDATE sessions SET expires_at = ? WHERE session_id = ?"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change, (expiry, "session-1"))
        async with SessionManager(path, sweep_interval=None) as sessions:
            assert await sessions.get_active_session_count() == 999 + live
            connection.execute(change, (expiry, "session-2"))
            assert (await sessions.get_session("session-2") is not None) == live
            assert await sessions.get_active_session_count() == 998 + 2 * live
            connection.execute(change, ("2099-01-01 00:00:00", "session-1"))
            assert await sessions.get_active_session_count() == 999 + live


async def test_a_chunk_is_as_large_as_its_time_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shrinks where it takes long, and never to nothing."""
    sizes: list[int] = []
    adopt = WholeTable._adopt

    def slow(self: WholeTable, *arguments: object) -> None:
        adopt(self, *arguments)  # type: ignore[arg-type]  # handed on as they came
        sizes.append(self._chunk)
        time.sleep(0.05)  # The lock is held for longer than it is to be.
        self._ended = time.monotonic()

    monkeypatch.setattr(WholeTable, "_adopt", slow)
    await whole(large(tmp_path / "legacy.db", 3000), 3000)
    assert sizes[0] > sizes[1] > sizes[-1] >= 100
