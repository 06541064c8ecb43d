"""The watchdog: ends what the demonstration started when that one is gone, however it went.

    python -m holdfast.demo.watchdog

A process of its own, for nothing inside a process survives its SIGKILL. It reads orders, one JSON array to a line,
from a pipe whose other end only the demonstration has, and acts once that ends.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from typing import Final

_PATIENCE_SECONDS: Final = 5.0


def end(pid: int, number: int) -> None:
    """Send a signal to a process and its group, and SIGKILL if it is still there after a while."""
    until = time.monotonic() + _PATIENCE_SECONDS
    for each in (number, int(signal.SIGKILL)):
        with suppress(ProcessLookupError):
            os.killpg(pid, each)
        while _alive(pid) and time.monotonic() < until:
            time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def remove(folder: str) -> None:
    """Delete a folder; again, for a while, when what is dying has written to it meanwhile."""
    until = time.monotonic() + _PATIENCE_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while os.path.lexists(folder) and time.monotonic() < until:
        time.sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Read orders until the pipe ends, then do what is left of them."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        # Ctrl-C in the terminal is for the demonstration; this one ends after it.
        signal.signal(ignored, signal.SIG_IGN)
    processes: dict[int, int] = {}
    schemas: list[tuple[str, str]] = []
    folders: list[str] = []
    for line in sys.stdin:
        match json.loads(line):
            case ["process", int(pid), int(number)]:
                processes[pid] = number
            case ["gone", int(pid)]:
                processes.pop(pid, None)
            case ["schema", str(address), str(schema)]:
                schemas.append((address, schema))
            case ["dropped"]:
                schemas.clear()
            case ["folder", str(folder)]:
                folders.append(folder)
    for pid, number in reversed(processes.items()):
        end(pid, number)
    for address, schema in schemas:
        with suppress(Exception):
            # Only now: most runs end in order, and this is what takes long to import.
            from holdfast.demo import own_schema

            asyncio.run(own_schema.drop(address, schema))
    for folder in folders:
        remove(folder)


if __name__ == "__main__":
    main()
