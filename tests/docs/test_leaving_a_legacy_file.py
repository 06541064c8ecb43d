"""The statements that take Holdfast out of a legacy file again."""

import sqlite3
from contextlib import closing
from pathlib import Path

from holdfast import SessionManager
from tests.docs.pages import blocks, page
from tests.legacy.old_application import OldSessionManager


async def test_nothing_of_holdfast_is_left(tmp_path: Path) -> None:
    """Docs: the file is what it was before Holdfast served it, and its application writes to it."""
    path = tmp_path / "old.db"
    old = OldSessionManager(path)
    token = old.create_session("u1")
    before = _schema(path)
    async with SessionManager(path) as manager:
        assert await manager.validate_session(token)
    assert _schema(path) != before
    (statements,) = (
        block.text for block in blocks(page("how-to/serve-a-legacy-file.md")) if "run=leave" in block.words
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    assert _schema(path) == before
    assert old.validate_session(token)


def _schema(path: Path) -> list[tuple[str, str]]:
    """What there is in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT type, name FROM sqlite_master ORDER BY type, name").fetchall()
