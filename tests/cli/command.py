"""The command line as a process of its own, in an environment of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.forked import Forker

COMMAND = [sys.executable, "-m", "holdfast"]


def environment(**changes: str) -> dict[str, str]:
    """The variables a process needs to run, and these, but no settings of the machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOLDFAST_") and name not in ("DATABASE_URL", "SESSION_DB_TYPE", "FORCE_COLOR")
    }
    return {**kept, "NO_COLOR": "1", **changes}


_forker = Forker()


def run(*arguments: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder until it ends: all of it but the start of the program, which takes the longest."""
    return run_limited(*arguments, folder=folder, variables=changes)


def run_limited(
    *arguments: str, folder: Path, variables: dict[str, str], limit: int | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The same where no file may grow longer than so many bytes, or as another user."""
    answer: Any = _forker.run(arguments, folder, environment(**variables), limit=limit, user=user)
    assert isinstance(answer, subprocess.CompletedProcess)
    return answer


def run_killed(*arguments: str, folder: Path, step: str, **changes: str) -> int:
    """Run a command that kills itself, by SIGKILL, at a step of its progress; its exit code."""
    code: int = _forker.run(arguments, folder, environment(**changes), step=step).returncode
    return code


def run_program(*arguments: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The same by the program that an operator starts: `holdfast`, where the package is installed."""
    installed = shutil.which("holdfast", path=str(Path(sys.executable).parent))
    return subprocess.run(
        [*(COMMAND if installed is None else [installed]), *arguments],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
