"""What an end on one side is on the other, and what no side may bring back."""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.legacy.form import has_legacy_form
from holdfast.legacy.store import LegacyStore
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions
from holdfast.sessions.tokens import new_token
from holdfast.testing.clock import MovableClock
from tests.legacy.old_application import FORM, OldSessionManager, legacy_file, local_now, text


@pytest.fixture
def path(tmp_path: Path, berlin: str) -> Path:
    """A legacy file, in a zone that is not UTC."""
    return legacy_file(tmp_path / "sessions.db")


def execute(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """What another program does to the file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def opened(path: Path, clock: MovableClock | None = None) -> SessionManager:
    return SessionManager(path, clock=clock, sweep_interval=None)


async def test_a_session_of_one_side_is_one_of_the_other(path: Path) -> None:
    """Created on either side, read, counted, extended and ended on both; the expiry is the same instant."""
    old = OldSessionManager(path)
    theirs = old.create_session("u1", {"lang": "ko"})
    async with opened(path) as sessions:
        session = await sessions.validate_session(theirs)
        assert session is not None
        assert (session.user_id, session.metadata, session.request_count) == ("u1", {"lang": "ko"}, 1)
        assert timedelta(hours=23.9) < session.expires_at - await sessions.ping() <= timedelta(hours=24)
        ours, expires_at = await sessions.create_session("u2", {"lang": "de"})
        row = old.get_session(ours)
        assert row is not None
        assert (row[1], row[2], row[6]) == ("u2", '{"lang":"de"}', 0)
        assert row[4] == text(expires_at.astimezone().replace(tzinfo=None))
        assert old.validate_session(theirs)
        assert old.extend_session(ours, 48)
        assert await sessions.extend_session(theirs, 72)
        again = await sessions.get_session(ours)
        assert again is not None
        assert again.expires_at > expires_at
        assert old.get_active_session_count() == await sessions.get_active_session_count() == 2
        assert await sessions.delete_session(theirs)
        assert old.get_session(theirs) is None
        assert old.delete_session(ours)
        assert await sessions.validate_session(ours) is None
        assert (await sessions.why_ended(theirs), await sessions.why_ended(ours)) == ("revoked", "revoked")


async def test_what_the_old_application_cleans_up_has_expired(path: Path) -> None:
    """A row that it deletes after its time was `expired`, and before it `revoked`."""
    old = OldSessionManager(path)
    early, late = old.create_session(), old.create_session()
    async with opened(path) as sessions:
        assert await sessions.get_active_session_count() == 2
        execute(path, "UPDATE sessions SET expires_at = ? WHERE session_id = ?", text(local_now()), late)
        assert old.cleanup_expired_sessions() == 1
        assert old.delete_session(early)
        assert (await sessions.why_ended(early), await sessions.why_ended(late)) == ("revoked", "expired")


@pytest.mark.parametrize("rotated", [False, True])
async def test_a_row_that_comes_back_opens_nothing(path: Path, rotated: bool) -> None:
    """The old application writes an ended or rotated session's row once more: nothing opens it (promise 2).

    Not even after the retention, as long as the row is there.
    """
    clock = MovableClock()
    old = OldSessionManager(path)
    token = old.create_session("u1")
    async with opened(path, clock) as sessions:
        row = old.get_session(token)
        assert row is not None
        if rotated:
            assert await sessions.rotate_session(token)
        else:
            assert await sessions.delete_session(token)
        execute(path, "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
        assert old.get_session(token) is not None
        assert await sessions.validate_session(token) is None
        assert await sessions.why_ended(token) == ("replaced" if rotated else "revoked")
        assert await sessions.get_active_session_count() == int(rotated)
        clock.advance(timedelta(hours=2))
        await sessions.sweep()
        assert await sessions.validate_session(token) is None
        assert len(await sessions.list_sessions()) == int(rotated)


async def test_a_watch_hears_of_the_old_applications_end(path: Path) -> None:
    """A socket is told when the old application logs its session out."""
    old = OldSessionManager(path)
    token = old.create_session("u1")
    async with opened(path) as sessions, sessions.watch(token) as watch:
        assert old.delete_session(token)
        end = await watch.wait()
        assert end is not None
        assert (end.user_id, end.reason) == ("u1", "revoked")


async def test_a_user_who_logs_in_on_an_old_session_owns_it(path: Path) -> None:
    """The old application changes a row's user: lists and revocations follow at once."""
    old = OldSessionManager(path)
    token = old.create_session()
    async with opened(path) as sessions:
        assert await sessions.list_sessions("u1") == []
        execute(path, "UPDATE sessions SET user_id = 'u1' WHERE session_id = ?", token)
        assert len(await sessions.list_sessions("u1")) == 1
        assert await sessions.revoke_user_sessions("u1") == 1
        assert old.get_session(token) is None


async def test_metadata_of_the_old_application_is_not_overwritten(path: Path) -> None:
    """It changes the metadata between Holdfast's reading and writing: the merge begins again with its text."""
    old = OldSessionManager(path)
    token = old.create_session("u1", {"a": 1})
    async with opened(path) as sessions:
        read = await sessions.store.list_live(None, 1, None)
        execute(path, """UPDATE sessions SET metadata = '{"b": 2}' WHERE session_id = ?""", token)
        assert await sessions.store.set_metadata(read[0].id, read[0].metadata_version, "{}") is None
        session = await sessions.update_metadata(token, {"c": 3})
        assert session is not None
        assert session.metadata == {"b": 2, "c": 3}


async def test_a_table_made_anew_is_noticed(path: Path) -> None:
    """The table is dropped and made again while Holdfast serves it: what was there is over, what comes is adopted."""
    old = OldSessionManager(path)
    gone = old.create_session("u1")
    async with opened(path) as sessions:
        assert await sessions.validate_session(gone)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("DROP TABLE sessions;" + FORM)
        new = old.create_session("u2")
        assert await sessions.validate_session(new)
        assert await sessions.validate_session(gone) is None
        assert await sessions.why_ended(gone) == "revoked"
        assert await sessions.get_active_session_count() == 1


async def test_what_happens_while_nobody_serves_is_caught_up_with(path: Path) -> None:
    """Rows that come and go while Holdfast is stopped are known when it starts; ids are the same as before."""
    old = OldSessionManager(path)
    stays, goes = old.create_session("u1"), old.create_session("u1")
    async with opened(path) as sessions:
        before = await sessions.get_session(stays)
    old.delete_session(goes)
    more = [old.create_session("u2") for _ in range(20)]
    async with opened(path) as sessions:
        assert await sessions.get_session(stays) == before
        assert await sessions.why_ended(goes) == "revoked"
        assert len(await sessions.list_sessions("u2")) == len(more)


async def test_more_rows_than_one_transaction_takes(path: Path) -> None:
    """A large file is adopted in steps, and so is what was written while nobody served it."""
    old = OldSessionManager(path)
    first = old.create_session("u1")
    copy = "INSERT INTO sessions SELECT ? || value, user_id, metadata, created_at, expires_at, last_activity, 0 "
    copy += "FROM sessions, json_each(?) WHERE session_id = ?"
    numbers = str(list(range(1700)))
    execute(path, copy, "before-", numbers, first)
    async with opened(path) as sessions:
        assert await sessions.get_active_session_count() == 1701
    execute(path, copy, "while-", numbers, first)
    async with opened(path) as sessions:
        assert await sessions.validate_session("while-1699")
        assert await sessions.get_active_session_count() == 3401
        execute(path, copy, "beside-", numbers, first)
        assert await sessions.get_active_session_count() == 5101


async def test_keys_that_are_not_utf_8_stop_nobody(path: Path) -> None:
    """More of them than one transaction takes are gone through, and the rows after them have their ids."""
    old = OldSessionManager(path)
    first = old.create_session("u1")
    copy = "INSERT INTO sessions SELECT CAST(X'66ff' || value AS TEXT), user_id, metadata, created_at, expires_at, "
    copy += "last_activity, 0 FROM sessions, json_each(?) WHERE session_id = ?"
    execute(path, copy, str(list(range(1200))), first)
    async with opened(path) as sessions:
        assert await sessions.get_active_session_count() == 1
        assert await sessions.validate_session(first)


async def test_an_unknown_token_costs_nothing_and_makes_nothing(path: Path) -> None:
    """No token that nobody issued is adopted, whatever it looks like (promise 3)."""
    OldSessionManager(path).create_session("u1")
    async with opened(path) as sessions:
        for token in (new_token(), "session-1", "", "x" * 256, "tökén", "\ud800", "a\0b"):
            assert await sessions.validate_session(token) is None
        assert execute(path, "SELECT count(*) FROM sessions") == [(1,)]
        assert execute(path, "SELECT count(*) FROM holdfast_ids") == [(1,)]


def test_looking_at_the_form_changes_nothing(path: Path, tmp_path: Path) -> None:
    """A legacy file is told from others byte by byte the same, and no other one is taken for it."""
    before = path.read_bytes()
    assert has_legacy_form(path)
    assert path.read_bytes() == before
    assert not has_legacy_form(tmp_path / "absent.db")
    (tmp_path / "text").write_text("no database")
    assert not has_legacy_form(tmp_path / "text")
    execute(
        tmp_path / "native.db",
        "CREATE TABLE sessions (session_id, user_id, metadata, created_at, expires_at, "
        "last_activity, request_count, digest)",
    )
    assert not has_legacy_form(tmp_path / "native.db")
    execute(tmp_path / "other.db", "CREATE TABLE sessions (id INTEGER PRIMARY KEY, user_id TEXT)")
    assert not has_legacy_form(tmp_path / "other.db")


async def test_the_table_stays_as_it_was(path: Path) -> None:
    """Its definition, its indexes and the journal mode are those of the old application, before and after."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 'sessions' AND type <> 'trigger' ORDER BY name"
    before = execute(path, query), execute(path, "PRAGMA journal_mode")
    async with opened(path) as sessions:
        await sessions.create_session("u1")
    assert (execute(path, query), execute(path, "PRAGMA journal_mode")) == before


async def test_a_replaced_file_is_not_served(path: Path, tmp_path: Path) -> None:
    """Another file under the same name is refused: the open one is not there any more."""
    async with opened(path) as sessions:
        shutil.copy(path, tmp_path / "copy")
        (tmp_path / "copy").replace(path)
        with pytest.raises(StoreRefused, match="was replaced"):
            await sessions.create_session("u1")


async def test_the_store_at_its_path_is_a_legacy_store(path: Path) -> None:
    """The form decides, not a setting."""
    sessions = SessionManager(path, options=StoreOptions(legacy_tz="Europe/Berlin"))
    async with sessions:
        assert isinstance(sessions.store, LegacyStore)
