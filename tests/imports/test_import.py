"""Imports into native stores: everybody stays logged in, nothing comes twice, and the counts add up."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast import SessionManager
from holdfast.backups.archive import tell_nobody
from holdfast.imports.report import Report
from holdfast.imports.run import Wishes, carry_all, look, refuse, taking
from holdfast.imports.sources import SqliteSource
from holdfast.move.following import FollowingStore
from holdfast.opening import open_store
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.stores import store_at
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file, plain_row
from tests.legacy.row_cases import CASES, NOW

UTC_WISHES = Wishes(ZoneInfo("UTC"))


async def imported(address: str, source: Path, wishes: Wishes = UTC_WISHES, now: datetime | None = None) -> Report:
    """Take a file in."""
    async with taking(address, StoreOptions()) as (store, at):
        return await carry_all(SqliteSource(source), store, wishes, now or at, tell_nobody)


def manager(address: str) -> SessionManager:
    """A manager that sweeps on request only."""
    return SessionManager(address, sweep_interval=None)


async def test_what_holdfast_ended_stays_ended(address: str, tmp_path: Path) -> None:
    """Promise 2: a file that was served in place; a row that the old application wrote again is no log-in."""
    rows = [plain_row("session-1"), plain_row("session-2")]
    source = legacy_file(tmp_path / "old.db", rows)
    async with SessionManager(open_store(source, StoreOptions(legacy_tz="UTC")), sweep_interval=None) as served:
        assert await served.delete_session("session-1")
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", rows[0])
    report = await imported(address, source)
    assert (report.rows, report.exact, report.quarantined, report.quarantined_live) == (2, 1, 1, 0)
    async with manager(address) as sessions:
        assert await sessions.validate_session("session-1") is None
        assert await sessions.validate_session("session-2")


async def test_everybody_stays_logged_in(address: str, tmp_path: Path) -> None:
    """A token of the old application opens its session, and a made-up one of that form opens nothing."""
    source = legacy_file(tmp_path / "old.db", [plain_row("session-1"), plain_row("session-2", user=None)])
    report = await imported(address, source)
    assert (report.rows, report.exact, report.live, report.new) == (2, 2, 2, 2)
    async with manager(address) as sessions:
        session = await sessions.validate_session("session-1")
        assert session is not None
        assert (session.user_id, session.metadata, session.request_count) == ("alice", {"device": "phone"}, 8)
        assert await sessions.validate_session("session-3") is None
        assert await sessions.validate_session("session-2") is not None


async def test_rotation_gives_a_token_of_ours(address: str, tmp_path: Path) -> None:
    """Once no session has a token of the old form any more, such texts are refused without asking the database."""
    await imported(address, legacy_file(tmp_path / "old.db", [plain_row("session-1"), plain_row("session-2")]))
    async with manager(address) as sessions:
        new = await sessions.rotate_session("session-1")
        assert new is not None
        assert new.token.startswith("hfs_")
        assert await sessions.delete_session("session-2")
        await sessions.sweep()
        malformed = sessions.counts.malformed
        assert await sessions.validate_session("session-2") is None
        assert sessions.counts.malformed == malformed + 1
        assert await sessions.validate_session(new.token) is not None


async def test_a_running_server_hears_of_it_at_its_next_sweep(address: str, tmp_path: Path) -> None:
    """It was opened before there was anything to look for."""
    async with manager(address) as sessions:
        await imported(address, legacy_file(tmp_path / "old.db", [plain_row("session-1")]))
        await sessions.sweep()
        assert await sessions.validate_session("session-1") is not None


async def test_a_second_run_brings_nobody_back(address: str, tmp_path: Path) -> None:
    """Ended, erased, deleted after their end: none of them lives again."""
    source = legacy_file(tmp_path / "old.db", [plain_row(f"session-{n}", user=f"user-{n}") for n in range(3)])
    await imported(address, source)
    async with manager(address) as sessions:
        assert await sessions.delete_session("session-0")
        assert await sessions.erase_user("user-1") == 1
    report = await imported(address, source)
    assert (report.rows, report.new) == (3, 0)
    async with manager(address) as sessions:
        assert await sessions.validate_session("session-0") is None
        assert await sessions.validate_session("session-1") is None
        assert await sessions.validate_session("session-2") is not None


async def test_a_row_of_every_kind(address: str, tmp_path: Path) -> None:
    """Each is in one class, what is kept of it holds no token, and every carried session can be read."""
    rows = [
        case.row._replace(session_id=f"token-{number}") if case.column != "session_id" else case.row
        for number, case in enumerate(CASES)
        if case.value is not None or case.column in ("user_id", "metadata", "request_count", "session_id")
    ]
    source = legacy_file(tmp_path / "old.db", rows)
    wishes = Wishes(ZoneInfo("Europe/Berlin"))
    before = await look(SqliteSource(source), wishes, tell_nobody, NOW)
    report = await imported(address, source, wishes, NOW)
    assert report.rows == before.rows == len(rows)
    assert report.new == len(rows)
    assert report.exact > 20
    assert report.repaired > 30
    assert report.quarantined > report.quarantined_live > 5
    assert report.remarks == before.remarks
    again = await imported(address, source, wishes, NOW)
    assert again.new == 0


async def test_what_an_import_keeps_goes_with_the_user(tmp_path: Path) -> None:
    """An erase empties the originals too."""
    token, user, _, *rest = plain_row("session-1")
    source = legacy_file(tmp_path / "old.db", [(token, user, "no json", *rest)])
    await imported(str(tmp_path / "new.db"), source)
    kept = "SELECT user_id, original, remarks FROM holdfast_imported"
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        (found,) = connection.execute(kept)
        assert found[0] == "alice"
        assert "no json" in found[1]
        assert "session-1" not in found[1]
        async with manager(str(tmp_path / "new.db")) as sessions:
            assert await sessions.validate_session("session-1") is not None
            await sessions.erase_user("alice")
        assert connection.execute(kept).fetchone()[:2] == (None, None)


def test_live_rows_are_left_behind_by_their_number_only(tmp_path: Path) -> None:
    """Zero, one too few and one too many are refused."""
    token, user, metadata, created, _, *rest = plain_row("session-1")
    source = SqliteSource(legacy_file(tmp_path / "old.db", [(token, user, metadata, created, "never", *rest)]))
    report = asyncio.run(look(source, UTC_WISHES, tell_nobody))
    assert (report.quarantined, report.quarantined_live) == (1, 1)
    for number in (0, 2):
        with pytest.raises(StoreRefused, match="--accept-quarantined 1"):
            refuse(report, Wishes(ZoneInfo("UTC"), accept_quarantined=number))
    refuse(report, Wishes(ZoneInfo("UTC"), accept_quarantined=1))


async def test_both_stores_of_a_move_know_of_the_old_tokens(
    tmp_path: Path, migrated_database: MigratedDatabases
) -> None:
    """A process that follows a move tries them as one with a single store does."""
    file, database = str(tmp_path / "new.db"), migrated_database(None)
    await imported(file, legacy_file(tmp_path / "old.db", [plain_row("session-1")]))
    following = StoreOptions(follows=True)
    store = FollowingStore(store_at(file, following), store_at(database, following), preferred="sqlite", deadline=5)
    async with SessionManager(store, sweep_interval=None) as sessions:
        assert await sessions.validate_session("session-1") is not None
        await sessions.sweep()
        assert await sessions.validate_session("session-1") is not None
        assert await sessions.validate_session("session-2") is None


async def test_a_legacy_file_takes_no_rows_in(tmp_path: Path) -> None:
    """It is the wrong file: refused, with what to give instead, and left as it is."""
    source = legacy_file(tmp_path / "old.db", [plain_row("session-1")])
    target = legacy_file(tmp_path / "other.db", [])
    before = target.read_bytes()
    with pytest.raises(StoreRefused, match=r"not touched.* use another file"):
        await imported(str(target), source)
    assert target.read_bytes() == before
