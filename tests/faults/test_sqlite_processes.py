"""Several processes on one file: writing at once, killed, holding the lock, or forgetting to close."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from holdfast import OutcomeUnknown, StoreUnavailable
from holdfast.sql import writer
from holdfast.sql.sqlite_file import engine
from tests.faults.bench import serves
from tests.faults.sqlite_bench import (
    in_process,
    log_of,
    opened,
    plain,
    row,
    start_killable,
    validate_much,
    value,
    whole,
    writer_of,
)
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch


async def prepared(path: Path, sessions: int) -> list[str]:
    """A file with so many sessions; their tokens."""
    async with opened(path) as manager:
        return [(await manager.create_session("u1")).token for _ in range(sessions)]


async def test_four_processes_write_one_file(tmp_path: Path) -> None:
    """F-43, promise 5: every activity is counted once, nobody hears that the file is busy, and it stays whole."""
    path = tmp_path / "sessions.db"
    tokens = await prepared(path, 5)
    rounds = 40
    with ThreadPoolExecutor(4) as threads:
        loop = asyncio.get_running_loop()
        outcomes = await asyncio.gather(
            *(loop.run_in_executor(threads, in_process, validate_much, path, tokens, rounds) for _ in range(4))
        )
    assert [(done, unknown, failed) for done, unknown, failed in outcomes] == [(rounds * len(tokens), 0, [])] * 4
    assert value(path, "SELECT sum(request_count) FROM sessions") == 4 * rounds * len(tokens)
    assert {each["request_count"] for token in tokens if (each := row(path, token))} == {4 * rounds}
    assert whole(path)


async def test_the_log_stays_small_while_two_processes_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-43: a checkpoint finds its turn although another process writes without a break."""
    path = tmp_path / "sessions.db"
    tokens = await prepared(path, 3)
    monkeypatch.setattr(writer, "_CHECKPOINT_BYTES", 64 * 1024)
    with ThreadPoolExecutor(1) as threads:
        loop = asyncio.get_running_loop()
        largest = batches = checkpoints = 0
        async with opened(path, deadline=20) as manager:
            # Not earlier: while this one was opened, on a busy machine the other would come to its end.
            other = loop.run_in_executor(threads, in_process, validate_much, path, tokens, 150)
            ours = writer_of(manager)
            before = log_of(path).stat().st_size
            while not other.done():
                ours._next_checkpoint = 0
                await manager.validate_session(tokens[0])
                size = log_of(path).stat().st_size
                checkpoints += size < before
                before, largest, batches = size, max(largest, size), batches + 1
            done, unknown, failed = await other
            assert (done, unknown, failed) == (450, 0, [])
            assert value(path, "SELECT sum(request_count) FROM sessions") == done + batches
    assert batches > 20, "the two were at it together"
    assert checkpoints > 0
    # What one process writes between two turns of the other comes on top of the bound.
    assert largest < 1024 * 1024
    assert whole(path)


async def killed_once(path: Path, tokens: list[str], after: int) -> list[tuple[str, str]]:
    """Let a process write, kill it after so many acknowledgements, and give back all there were."""
    process, pipe = start_killable(path, tokens)
    acknowledged = await asyncio.to_thread(received, pipe, after)
    process.kill()
    acknowledged += await asyncio.to_thread(received, pipe, 1_000_000)
    await asyncio.to_thread(process.join)
    pipe.close()
    return acknowledged


def received(pipe: Connection, most: int) -> list[tuple[str, str]]:
    """What came, until so much has or the other end is gone."""
    found: list[tuple[str, str]] = []
    try:
        while len(found) < most:
            found.append(pipe.recv())
    # A process killed while it wrote leaves half a message.
    except (EOFError, OSError):
        pass
    return found


async def kill_again_and_again(path: Path, rounds: int, seed: int = 1) -> None:
    """Rounds of `killed_once`, each checked against the file."""
    chance = random.Random(seed)
    tokens = await prepared(path, 4)
    touched: Counter[str] = Counter()
    created: set[str] = set()
    ended: set[str] = set()
    for _ in range(rounds):
        for what, token in await killed_once(path, tokens, chance.randrange(1, 60)):
            if what == "touched":
                touched[token] += 1
            (created if what == "created" else ended if what == "ended" else set()).add(token)
        assert whole(path)
        with plain(path) as connection:
            query = "SELECT digest, ended_at IS NULL, request_count FROM sessions"
            rows = {digest: (live, count) for digest, live, count in connection.execute(query)}
        digests = {token: rows.get(writer_digest(token)) for token in {*created, *tokens}}
        lost = [token for token, found in digests.items() if found is None]
        assert lost == []
        assert [token for token in ended if digests[token][0]] == []  # type: ignore[index]  # none is lost
        for token in tokens:
            # Its own callers, one per process, may each have had one answer on the way.
            assert touched[token] <= digests[token][1]  # type: ignore[index]  # none is lost
    assert created
    assert ended
    assert sum(touched.values()) > rounds
    async with opened(path) as manager:
        for token in list(ended)[-20:]:
            assert await manager.validate_session(token) is None
        for token in list(created - ended)[-20:]:
            assert await manager.get_session(token) is not None or await manager.why_ended(token) in (
                "replaced",
                "revoked",
            )


def writer_digest(token: str) -> bytes:
    """What is kept of a token."""
    from holdfast.sessions.tokens import digest_of_new

    return bytes(digest_of_new(token))


async def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """F-44, I-2: whatever was acknowledged before SIGKILL is in the file, and what had ended stays ended."""
    await kill_again_and_again(tmp_path / "sessions.db", 15)


@pytest.mark.soak
async def test_a_process_killed_hundreds_of_times_loses_nothing(tmp_path: Path) -> None:
    """F-44, I-2: the same, a few hundred times over one file."""
    await kill_again_and_again(tmp_path / "sessions.db", 300, seed=2)


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("SELECT count(*) FROM sessions").fetchall()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def foreign_program(path: Path, statement: str) -> Iterator[None]:
    """Another program that is in a transaction for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), statement], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


async def test_a_foreign_program_holds_the_lock_past_the_deadline(tmp_path: Path) -> None:
    """F-43, promise 7: at the deadline each writer hears that nothing was done; nothing is done later either."""
    path = tmp_path / "sessions.db"
    (token,) = await prepared(path, 1)
    async with opened(path, deadline=1.5) as manager:
        clock = asyncio.get_running_loop().time
        with foreign_program(path, "BEGIN IMMEDIATE"):
            begun, watch = clock(), Stopwatch()
            calls = [
                manager.validate_session(token),
                manager.create_session("u2"),
                manager.delete_session(token),
                manager.ping(),
            ]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert clock() - begun > 1.4
            assert watch.seconds < 2.3
            for outcome in outcomes:
                assert isinstance(outcome, StoreUnavailable)
                assert not isinstance(outcome, OutcomeUnknown)
                assert "another process holds its write lock" in str(outcome)
            session = await manager.get_session(token)
            assert session is not None
            assert session.request_count == 0
        # Freed while the last attempt may still be waiting for the lock: it must not act for callers who gave up.
        session = await manager.validate_session(token)
        assert session is not None
        assert session.request_count == 1
        assert value(path, "SELECT count(*) FROM sessions") == 1
        await manager.ping()


async def test_what_was_given_up_is_not_done_when_the_lock_is_freed(tmp_path: Path) -> None:
    """F-43, I-2: the lock is freed just after the deadline, while the writer is still waiting for it."""
    path = tmp_path / "sessions.db"
    (token,) = await prepared(path, 1)
    async with opened(path, deadline=0.2) as manager:
        for _ in range(5):
            with plain(path) as connection:
                connection.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailable) as caught:
                    await manager.validate_session(token)
                assert not isinstance(caught.value, OutcomeUnknown)
                connection.execute("ROLLBACK")
            await eventually(partial(serves, manager), what="the writer has come to the end of it")
        found = row(path, token)
        assert found is not None
        assert found["request_count"] == 0


async def test_a_foreign_reader_holds_nobody_up(tmp_path: Path) -> None:
    """F-49: a long reader in another program keeps the log growing, never a caller waiting; afterwards it shrinks."""
    path = tmp_path / "sessions.db"
    async with opened(path, deadline=20) as manager:
        token = (await manager.create_session("u1", {"a": "x" * 10_000})).token
        slowest = 0.0
        with foreign_program(path, "BEGIN"):
            for _ in range(3):
                for _ in range(20):
                    watch = Stopwatch()
                    await asyncio.gather(*(manager.create_session("u2", {"a": "x" * 10_000}) for _ in range(20)))
                    slowest = max(slowest, watch.seconds)
                writer_of(manager)._next_checkpoint = 0
            grown = log_of(path).stat().st_size
            assert grown > 4 * 1024 * 1024
        writer_of(manager)._next_checkpoint = 0
        await manager.validate_session(token)
        assert log_of(path).stat().st_size < 100_000
        # The reader stays to the end: whoever waited for it would wait for as long as a call may take.
        assert slowest < 5.0
        assert value(path, "SELECT count(*) FROM sessions") == 1201


FORGETFUL = """
import asyncio, sys
from holdfast import SessionManager

async def main():
    manager = SessionManager(sys.argv[1], session_ttl_hours=1)
    await manager.open()
    token, _ = await manager.create_session("u1")
    await asyncio.gather(*(manager.validate_session(token) for _ in range(20)))
    await asyncio.gather(*(manager.get_session(token) for _ in range(20)))
    if sys.argv[2] == "busy":
        calls = [asyncio.ensure_future(manager.validate_session(token)) for _ in range(20)]
        await asyncio.sleep(0)
    if sys.argv[2] == "kept":
        globals()["manager"] = manager

asyncio.run(main())
print("done", flush=True)
"""


@pytest.mark.parametrize("how", ["idle", "busy", "kept"])
def test_a_program_that_forgets_to_close_ends(tmp_path: Path, how: str) -> None:
    """F-53: the interpreter exits within 5 s, and the file is in order."""
    path = tmp_path / "sessions.db"
    command = [sys.executable, "-c", FORGETFUL, str(path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        # What it takes to start is no part of this.
        printed = program.stdout.readline()
        done = time.monotonic()
        try:
            _, told = program.communicate(timeout=60)
        finally:
            program.kill()
        assert printed == "done\n", told
        assert time.monotonic() - done < 5, told
    assert whole(path)
    assert value(path, "SELECT request_count FROM sessions") >= 20


async def test_a_busy_library_is_waited_for(tmp_path: Path) -> None:
    """F-43: a lock held for less than the deadline is no failure."""
    path = tmp_path / "sessions.db"
    async with opened(path, deadline=10) as manager:
        token = (await manager.create_session("u1")).token
        with plain(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(manager.validate_session(token))

            def tried() -> bool:
                return manager.store._writes._last_failure is not None  # type: ignore[attr-defined]  # of SQLite

            await eventually(tried, what="one attempt met the lock")
            connection.execute("ROLLBACK")
        session: Any = await waiting
        assert session.request_count == 1


def test_sqlite_is_what_we_think(tmp_path: Path) -> None:
    """F-43: WAL, full durability and no mapped memory, whoever opens the file."""
    made = engine(tmp_path / "a.db")
    with made.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "wal_autocheckpoint")
        }
    made.dispose()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "mmap_size": 0,
        "wal_autocheckpoint": 0,
    }
    assert sqlite3.threadsafety > 0
