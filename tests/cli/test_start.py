"""How much of the package a command loads before it does anything: as little as it needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.sql import schema

HEAVY = {
    "aiosqlite", "alembic", "asyncpg", "fastapi", "jinja2", "mako", "opentelemetry", "prometheus_client", "rich",
    "sqlalchemy", "starlette", "uvicorn", "uvloop", "websockets",
}  # fmt: skip
"""Packages that take long, or load one that does. Typer itself cannot do without pydantic for an option."""

_SCRIPT = """
import json, sys
from holdfast.cli.main import main
sys.argv = ["holdfast", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded(*arguments: str) -> set[str]:
    """The packages that a command that succeeds has loaded in the end."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", ["--version", "--help", "sessions --help", "move cutover --help"])
def test_saying_what_there_is_loads_no_heavy_package(arguments: str) -> None:
    """CLI: a version and a help page cost what Python, Typer and our own domain cost."""
    assert HEAVY & loaded(*arguments.split()) == set()


async def test_looking_into_a_file_loads_what_reads_it(tmp_path: Path) -> None:
    """CLI: neither migrations nor PostgreSQL's driver nor a web framework, where a SQLite file is asked something."""
    await schema.upgrade(tmp_path / "sessions.db")
    found = loaded("sessions", "count", "--sqlite", str(tmp_path / "sessions.db"))
    assert HEAVY & found <= {"aiosqlite", "sqlalchemy"}
