"""Commands that die at a given step: a program that forks a child for each, so that nothing is imported twice.

Run as a program it reads a line of JSON for each child and answers with how it ended and which steps it had come to.
"""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    killed: bool
    error: str | None
    """The kind and text of what it raised."""
    steps: list[str]


class Killer:
    """The program, seen from the tests."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.backups.killed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=30)

    def run(self, what: str, *arguments: str, at: int | None = None, **more: Any) -> Ended:
        """Run `backup`, `restore` or `prune`.

        `at` is the number of the step to die at, `after` so many seconds; no file grows longer than `limit`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        more = {"after": None, "limit": None, **more}
        order = {"what": what, "arguments": arguments, "at": at, **more}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def _child(order: dict[str, Any], report: int) -> None:
    from holdfast.backups.prune import prune
    from holdfast.backups.restore import restore
    from holdfast.backups.restoring import Wishes
    from holdfast.backups.take import take
    from holdfast.sessions.store import StoreOptions
    from holdfast.sql.address import parse_address

    steps = 0

    def tell(step: str, _: int) -> None:
        nonlocal steps
        os.write(report, f"{step}\n".encode())
        if steps == order["at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    if order["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    if order["after"] is not None:
        # Nobody handles the signal: the system ends the process where it is.
        signal.setitimer(signal.ITIMER_REAL, order["after"])
    match order["what"], order["arguments"]:
        case "backup", [address, folder]:
            asyncio.run(take(parse_address(address), StoreOptions(), Path(folder), tell))
        case "restore", [address, folder, source]:
            asyncio.run(restore(parse_address(address), StoreOptions(), Path(source), Path(folder), Wishes(), tell))
        case "prune", [folder]:
            prune(Path(folder), timedelta(0), tell=tell)


def _serve() -> None:
    # Imported once, here; the children inherit it.
    for name in ("asyncpg", "aiosqlite", "holdfast.backups.prune", "holdfast.backups.restore"):
        import_module(name)
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 0
            try:
                _child(json.loads(line), writing)
            except BaseException as error:
                os.write(writing, f"!{type(error).__name__}: {error}\n".encode())
                code = 1
            os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as file:
            told = file.read().splitlines()
        status = os.waitpid(child, 0)[1]
        errors = [each[1:] for each in told if each.startswith("!")]
        answer = {
            "killed": os.WIFSIGNALED(status),
            "error": errors[0] if errors else None,
            "steps": [each for each in told if not each.startswith("!")],
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
