"""A native store of each kind, and the application's table that it is to take in."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.sql import schema
from tests.conftest import MigratedDatabases
from tests.legacy.old_application import FORM

ZONE = "Europe/Berlin"


def legacy_file(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """A file in the legacy form. A text that is not UTF-8 is given as a tuple of its bytes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORM)
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    path.chmod(0o600)
    return path


def plain_row(token: str, hours: float = 5, user: str | None = "alice") -> tuple[Any, ...]:
    """A row as the old application writes it in UTC."""
    now = datetime.now(UTC).replace(tzinfo=None)
    times = (now, now + timedelta(hours=hours), now)
    return (token, user, '{"device":"phone"}', *(each.isoformat(" ") for each in times), 7)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> str:
    """An empty native store of each kind in turn."""
    if request.param == "postgresql":
        return migrated_database(None)
    path = tmp_path / "native" / "sessions.db"
    asyncio.run(schema.upgrade(path))
    return str(path)
