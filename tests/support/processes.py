"""Signals to a whole server: a postmaster and everything it started.

Linux and macOS.  Every PostgreSQL process makes a session of its own, so a signal to the process
group of the postmaster would reach the postmaster alone; the tree is walked instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
from collections.abc import Collection
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its types are a package of their own

from tests.support.polling import until

_IPC_RMID = 0

_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, ProcessLookupError)


def children(pid: int) -> list[psutil.Process]:
    """Every living process below `pid`."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
        return found
    except _GONE:
        return []


def alive(pid: int) -> bool:
    """Whether `pid` runs; a process that ended but was not yet collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except _GONE:
        return False


def stopped(pid: int) -> bool:
    """Whether `pid` is frozen by SIGSTOP."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except _GONE:
        return False


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze(postmaster: int) -> list[int]:
    """SIGSTOP the tree and return it, postmaster first.

    The postmaster goes first: frozen, it cannot start a child behind the walker's back.
    """
    send(postmaster, signal.SIGSTOP)
    until(lambda: stopped(postmaster) or not alive(postmaster), what="the postmaster is frozen")
    below = [each.pid for each in children(postmaster)]
    for pid in below:
        send(pid, signal.SIGSTOP)
    until(lambda: all(stopped(pid) or not alive(pid) for pid in below), what="all backends are frozen")
    return [postmaster, *below]


def thaw(postmaster: int) -> None:
    """SIGCONT the tree, the postmaster last: it finds its children as they were."""
    for each in children(postmaster):
        send(each.pid, signal.SIGCONT)
    send(postmaster, signal.SIGCONT)


def kill(postmaster: int) -> None:
    """SIGKILL the tree; no process of it gets to run another instruction of its own."""
    end(freeze(postmaster))


def end(pids: Collection[int]) -> None:
    """SIGKILL these processes and return when none runs any more."""
    for pid in pids:
        send(pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), what="killed processes are gone")


def orphans(data: Path) -> list[int]:
    """Processes that work inside a data directory: backends whose postmaster is dead or not.

    A backend notices the death of its postmaster by itself - unless it is frozen.
    """
    found = []
    for each in psutil.process_iter():
        # Other people's processes do not tell; ours do.
        with contextlib.suppress(psutil.Error, OSError):
            if each.cwd() == str(data):
                found.append(each.pid)
    return found


def postmaster_of(data: Path) -> int | None:
    """The living postmaster of a data directory, by its own pid file."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    # A number in a stale file may belong to anybody by now; the server's command line names the
    # data directory.
    try:
        return pid if str(data) in psutil.Process(pid).cmdline() else None
    except psutil.Error:
        return None


def forget(data: Path) -> None:
    """Remove what a killed server leaves outside and inside its data directory.

    That is the System V memory segment that marks the directory as in use (a segment nobody is
    attached to; it would stay until the machine restarts) and the pid file: its number may be
    reused by then, and the server would refuse to start next to "another postmaster".
    """
    pidfile = data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        segment = int(pidfile.read_text().splitlines()[6].split()[1])
        ctypes.CDLL(None).shmctl(segment, _IPC_RMID, None)
    with contextlib.suppress(OSError):
        pidfile.unlink()


def reap(data: Path) -> None:
    """End the server of a data directory, whatever its state, and delete the directory."""
    postmaster = postmaster_of(data)
    if postmaster is not None:
        with contextlib.suppress(TimeoutError):
            kill(postmaster)
    with contextlib.suppress(TimeoutError):
        end(orphans(data))
    forget(data)
    shutil.rmtree(data, ignore_errors=True)
