"""Real servers for HTTP tests: `holdfast serve` and the test kit's, each in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.support.polling import until

APPLICATION = "application-credential-of-the-tests"
OPERATOR = "operator-credential-of-the-tests-"

_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")


@contextmanager
def serving(directory: Path, name: str, *command: str, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The base address of a server, run as `python -m` of this command until the end of the block.

    Its log is `directory/name.log`. It must stop in order when it is asked to.
    """
    # Settings of whoever runs the tests must not reach it; and it looks for a `.env` where it starts.
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HOLDFAST_", "DATABASE_", "SESSION_"))
    }
    environment = {**kept, "HOLDFAST_APP_TOKEN": APPLICATION, "HOLDFAST_ADMIN_TOKEN": OPERATOR, **(settings or {})}
    log = directory / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", "0"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or _address(log) is not None, what=f"{name} listens")
        address = _address(log)
        assert address is not None, log.read_text()
        until(lambda: process.poll() is not None or _is_ready(address), what=f"{name} is ready")
        yield address
        process.terminate()
        assert process.wait(timeout=30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _address(log: Path) -> str | None:
    found = _LISTENING.search(log.read_text(errors="replace"))
    return None if found is None else found[1]


def _is_ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz").status_code == 200
    except httpx2.TransportError:
        return False
