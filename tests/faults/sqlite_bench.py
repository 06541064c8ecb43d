"""What the SQLite fault tests share: a manager, the truth in the file, and processes to break."""

import asyncio
import multiprocessing
import os
import pwd
import resource
import shutil
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from holdfast import NewSession, OutcomeUnknown, SessionManager, StoreOptions, StoreUnavailable
from holdfast.sessions.tokens import digest_of_new
from holdfast.sql.sqlite import SqliteStore
from holdfast.sql.writer import Writer

DEADLINE = 10.0
"""Seconds that one call may take, where no test waits for them to pass: no stall of a disk is to be one more fault."""


def opened(path: Path, *, deadline: float = DEADLINE, clock: Any = None, **settings: Any) -> SessionManager:
    """A manager that sweeps only when told to."""
    options = StoreOptions(deadline=deadline, **settings)
    return SessionManager(path, sweep_interval=None, options=options, clock=clock)


def writer_of(manager: SessionManager) -> Writer:
    """The writing half of an open manager's store."""
    store = manager.store
    assert isinstance(store, SqliteStore)
    return store._writer


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of a program that is not Holdfast."""
    # What a batch leaves to do, such as a checkpoint, is waited for.
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def value(path: Path, query: str, *arguments: Any) -> Any:
    """One value out of the file."""
    with plain(path) as connection:
        row = connection.execute(query, arguments).fetchone()
    return None if row is None else row[0]


def row(path: Path, token: str) -> dict[str, Any] | None:
    """The row that a token names now."""
    with plain(path) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM sessions WHERE digest = ?", (digest_of_new(token),)).fetchone()
    return None if found is None else dict(found)


def whole(path: Path) -> bool:
    """Whether SQLite finds the file in order."""
    return bool(value(path, "PRAGMA integrity_check") == "ok")


def log_of(path: Path) -> Path:
    """The write-ahead log of a file."""
    return path.with_name(f"{path.name}-wal")


# Processes. They are forked from one that has imported everything, which takes milliseconds instead of a second.

forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(["tests.faults.sqlite_bench"])


def in_process(work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    """Do something in a process of its own, for which limits and privileges can be changed; its answer."""
    ours, theirs = forked.Pipe()
    process = forked.Process(target=_run, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        failure, answer = ours.recv()
    finally:
        ours.close()
        process.join(60)
    assert not failure, failure
    return answer


def _run(pipe: Connection, work: Callable[..., Coroutine[Any, Any, Any]], arguments: tuple[Any, ...]) -> None:
    try:
        outcome = ("", asyncio.run(work(*arguments)))
    except BaseException:
        outcome = (traceback.format_exc(), None)
    pipe.send(outcome)


class Tally:
    """What one process was told about its calls."""

    def __init__(self) -> None:
        self.done = 0
        self.unknown = 0
        self.failed: list[str] = []

    async def of(self, call: Awaitable[Any]) -> None:
        """Count how a call ended."""
        try:
            await call
            self.done += 1
        except OutcomeUnknown:
            self.unknown += 1
        except StoreUnavailable as error:
            self.failed.append(str(error))


async def validate_much(path: Path, tokens: list[str], rounds: int, deadline: float = 20) -> tuple[int, int, list[str]]:
    """Validate every token so many times, all at once each time."""
    tally = Tally()
    async with opened(path, deadline=deadline) as manager:
        for _ in range(rounds):
            await asyncio.gather(*(tally.of(manager.validate_session(token)) for token in tokens))
    return tally.done, tally.unknown, tally.failed


def start_killable(path: Path, tokens: list[str]) -> tuple[Any, Connection]:
    """A process that writes until it is killed, and says over the pipe what was acknowledged to it."""
    ours, theirs = forked.Pipe(duplex=False)
    process = forked.Process(target=_write_for_ever, args=(theirs, path, tokens), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _write_for_ever(pipe: Connection, path: Path, tokens: list[str]) -> None:
    async def touch(manager: SessionManager, token: str) -> None:
        while True:
            if await manager.validate_session(token) is not None:
                pipe.send(("touched", token))

    async def come_and_go(manager: SessionManager) -> None:
        while True:
            new = await manager.create_session("u1", {"a": 1})
            pipe.send(("created", new.token))
            if await manager.delete_session(new.token):
                pipe.send(("ended", new.token))
            kept: NewSession = await manager.create_session("u2")
            rotated = await manager.rotate_session(kept.token)
            if rotated is not None:
                pipe.send(("created", rotated.token))

    async def main() -> None:
        async with opened(path) as manager:
            await asyncio.gather(
                *(touch(manager, token) for token in tokens), *(come_and_go(manager) for _ in range(4))
            )

    with suppress(BrokenPipeError):
        asyncio.run(main())


# Limits and privileges

NOBODY = 65534


def become_nobody() -> None:
    """Give root's powers up: permissions do not bind root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def hand_to_nobody(*paths: Path) -> None:
    """Let the process that gave root's powers up own these."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY)


def limit_files(size: int) -> None:
    """No file of this process may grow beyond this: to SQLite a disk that takes no more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def free_files() -> None:
    """Take the limit back."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def small_disk(folder: Path, size: str = "2m") -> Iterator[bool]:
    """A file system of so many bytes in a folder, where this process may mount one; whether it may."""
    import subprocess

    program = shutil.which("mount")
    command = [str(program), "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", str(folder)]
    mounted = program is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def user_name() -> str:
    """Who runs the tests, for a message."""
    return pwd.getpwuid(os.geteuid()).pw_name
