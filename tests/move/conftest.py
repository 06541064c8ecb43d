"""Fixtures of the tests of the move."""

from pathlib import Path

import pytest_asyncio

from holdfast.sql import schema
from tests.conftest import MigratedDatabases
from tests.move.bench import Place


@pytest_asyncio.fixture
async def place(tmp_path: Path, migrated_database: MigratedDatabases) -> Place:
    """A file and a database, both with our tables and without a session."""
    path = tmp_path / "sessions.db"
    await schema.upgrade(path)
    return Place(path, migrated_database(None))
