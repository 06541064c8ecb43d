"""A mover beside an old application that has its file locked."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Timer
from zoneinfo import ZoneInfo

import pytest

from holdfast.move.legacy_file import LegacyFile
from holdfast.move.legacy_sqlite_side import LegacySide
from tests.legacy.old_application import legacy_file
from tests.move.legacy_place import ZONE

PATIENCE_SECONDS = 0.1


@pytest.fixture
def side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LegacySide]:
    """A mover's side of a legacy file, with hardly any patience for a lock to write with."""
    monkeypatch.setattr(LegacyFile, "busy_milliseconds", int(PATIENCE_SECONDS * 1000))
    made = LegacySide(legacy_file(tmp_path / "sessions.db"), lambda _: None, ZoneInfo(ZONE))
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("has_written", [False, True])
def test_a_look_waits_for_its_turn_to_read(side: LegacySide, tmp_path: Path, has_written: bool) -> None:
    """Under a rollback journal each commit of the old application keeps readers out; a look outlasts many of them."""
    if has_written:
        side.make_ready()
    with closing(
        sqlite3.connect(tmp_path / "sessions.db", check_same_thread=False, isolation_level=None)
    ) as committing:
        committing.execute("BEGIN EXCLUSIVE")
        over = Timer(5 * PATIENCE_SECONDS, lambda: committing.execute("COMMIT"))
        over.start()
        assert side.look().authority == "here"
        over.join()
