"""The command line as a process of its own, in an environment of its own."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "holdfast"]


def environment(**changes: str) -> dict[str, str]:
    """The variables a process needs to run, and these, but no settings of the machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOLDFAST_") and name not in ("DATABASE_URL", "SESSION_DB_TYPE", "FORCE_COLOR")
    }
    return {**kept, "NO_COLOR": "1", **changes}


def run(*arguments: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder until it ends."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
