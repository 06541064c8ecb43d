"""What a figure depends on: the machine, the versions, what else was running."""

import asyncio
import gc
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    *("holdfast", "sqlalchemy", "asyncpg", "aiosqlite", "uvicorn", "websockets", "starlette"),
    *("starsessions", "redis", "hiredis", "litestar", "advanced-alchemy", "django", "psycopg"),
)


def machine() -> dict[str, object]:
    """The machine and its load now."""
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Everything whose speed is in the figures."""
    return {
        **{name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **_redis(),
        "commit": _commit(),
    }


def conditions() -> dict[str, object]:
    """How this process runs."""
    return {
        "event_loop": type(asyncio.get_running_loop()).__module__,
        "garbage_collection": gc.isenabled(),
        "assertions": sys.flags.optimize == 0,
    }


def _version(package: str) -> str | None:
    """`None` for a peer that is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _redis() -> dict[str, str]:
    program = shutil.which("redis-server")
    if program is None:
        return {}
    told = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return {"redis-server": told.split("v=")[1].split()[0]}


def _commit() -> str:
    command = ["git", "-c", f"safe.directory={Path.cwd()}", "describe", "--always", "--dirty"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
