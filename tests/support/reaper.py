"""The watchdog that ends the servers of a test process that died.

A separate process, because nothing inside a process survives its SIGKILL; and not the kernel's
"signal me when my parent dies", because that means the parent *thread*, and tests start servers
from worker threads.  The watchdog holds the reading end of a pipe whose writing end only the test
process has: however that one ends, the pipe ends with it.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import processes


class Reaper:
    """This process's watchdog: it is told which folders to clean up after us."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.reaper"],
            # Where the package `tests` is, wherever pytest was started.
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            # A session of its own: Ctrl-C in the terminal must not end the watchdog first.
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.close)

    def watch(self, data: Path) -> None:
        """End the server of `data` and delete the folder when this process is gone."""
        self._tell(f"watch {data}")

    def sweep(self, folder: Path) -> None:
        """Delete `folder`, which holds no server, when this process is gone."""
        self._tell(f"sweep {folder}")

    def forget(self, data: Path) -> None:
        """`data` was removed in the ordinary way."""
        self._tell(f"forget {data}")

    def close(self) -> None:
        """Let the watchdog do its work now, and wait for it."""
        # A forked child inherits the registration but is not the owner of the servers.
        if os.getpid() == self._owner and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=60)

    def _tell(self, line: str) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            return
        # One write per line, below the size the kernel keeps whole: threads may speak at once.
        os.write(self._process.stdin.fileno(), f"{line}\n".encode())


@functools.cache
def reaper() -> Reaper:
    """The watchdog of this process, started at first use."""
    return Reaper()


def main() -> None:
    """Read orders until the pipe ends, then clean up."""
    watched: set[Path] = set()
    swept: set[Path] = set()
    for line in sys.stdin:
        order, _, path = line.rstrip("\n").partition(" ")
        if order == "watch":
            watched.add(Path(path))
        elif order == "sweep":
            swept.add(Path(path))
        else:
            watched.discard(Path(path))
    for data in watched:
        processes.reap(data)
    for folder in swept:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
