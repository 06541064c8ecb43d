"""How much of the package a command loads before it does anything: as little as it needs."""

import json
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "arguments", ["--version", "--help", "sessions --help", "db --help", "move cutover --help", "demo --help"]
)
def test_saying_what_there_is_loads_no_heavy_package(arguments: str) -> None:
    """CLI: a version and a help page cost what Python, Typer and our own domain cost."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert HEAVY & set(json.loads(done.stderr)) == set()
