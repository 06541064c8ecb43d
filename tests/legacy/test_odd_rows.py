"""One row of every kind that old applications left behind: nobody is logged out by it, and nothing crashes."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from holdfast.legacy.rows import Readable
from holdfast.legacy.store import LegacyStore
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import SqliteAddress
from holdfast.testing.clock import MovableClock
from tests.legacy.old_application import legacy_file, local_now, text
from tests.legacy.row_cases import CASES
from tests.legacy.row_cases import NOW as AT

NOW = local_now()
LATER = text(NOW + timedelta(hours=20))
NESTED = '{"a":' + "[" * 20_000 + "]" * 20_000 + "}"


class Kind(NamedTuple):
    """One row: what differs from a sound one, and what Holdfast makes of it."""

    name: str
    live: bool
    changes: dict[str, Any]
    metadata: dict[str, Any] | None = None


KINDS = [
    Kind("a sound row", True, {}, {"a": 1}),
    Kind("no metadata", True, {"metadata": None}, {}),
    Kind("empty metadata", True, {"metadata": ""}, {}),
    Kind("metadata that is a Python value", True, {"metadata": "{'a': 1}"}, {}),
    Kind("metadata that is a list", True, {"metadata": "[1]"}, {}),
    Kind("metadata with NaN", True, {"metadata": '{"a": NaN, "b": 1}'}, {"a": None, "b": 1}),
    Kind("metadata with an escaped NUL", True, {"metadata": r'{"a": "x\u0000y"}'}, {"a": "x\ufffdy"}),
    Kind("metadata with a lone surrogate", True, {"metadata": r'{"a": "\ud800"}'}, {"a": "\ufffd"}),
    Kind("metadata with a key twice", True, {"metadata": '{"a": 1, "a": 2}'}, {"a": 2}),
    Kind("metadata nested deep", True, {"metadata": NESTED}, {}),
    Kind("metadata that is a blob", True, {"metadata": b'{"a": 1}'}, {"a": 1}),
    Kind("no user", True, {"user_id": None}),
    Kind("a user with a NUL", False, {"user_id": "u\0"}),
    Kind("a user that is a blob", False, {"user_id": b"u1"}),
    Kind("no count", True, {"request_count": None}),
    Kind("a count that is a text", True, {"request_count": "many"}),
    Kind("a count that is a real", True, {"request_count": 1.5}),
    Kind("no fraction of a second", True, {"expires_at": LATER[:19]}),
    Kind("an expiry with T", True, {"expires_at": LATER.replace(" ", "T")}),
    Kind("an expiry with an offset", True, {"expires_at": LATER + "+00:00"}),
    Kind("an expiry in seconds since 1970", True, {"expires_at": 4_000_000_000}),
    Kind("an expiry of never", True, {"expires_at": "9999-12-31 23:59:59.999999"}),
    Kind("an expiry that is a word", False, {"expires_at": "tomorrow"}),
    Kind("an expiry that is no date", False, {"expires_at": "2099-02-30 00:00:00"}),
    Kind("an expiry that is a date as a number", False, {"expires_at": "20990101"}),
    Kind("an expiry that has passed", False, {"expires_at": text(NOW - timedelta(hours=1))}),
    Kind("a creation that is a word", True, {"created_at": "yesterday"}),
    Kind("a creation to come", True, {"created_at": LATER}),
    Kind("an activity that is empty", True, {"last_activity": ""}),
    Kind("an activity to come", True, {"last_activity": LATER}),
    Kind("a long token", True, {"session_id": "t" * 255}),
    Kind("a token too long", False, {"session_id": "t" * 256}),
    Kind("an empty token", False, {"session_id": ""}),
    Kind("a token with a NUL", False, {"session_id": "t\0t"}),
    Kind("a token that is a blob", False, {"session_id": b"blob"}),
    Kind("a token in another alphabet", True, {"session_id": "세션-1"}),
    Kind("no token", False, {"session_id": None}),
]
NOT_UTF_8 = [
    ("session_id", False),
    ("user_id", False),
    ("metadata", True),
    ("created_at", True),
    ("expires_at", False),
    ("last_activity", True),
]


def fill(path: Path) -> list[tuple[Any, bool, dict[str, Any] | None]]:
    """Write a row of each kind; the token of each, whether it is to be live, and with which metadata."""
    written: list[tuple[Any, bool, dict[str, Any] | None]] = []
    begun = text(NOW - timedelta(hours=4))
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, kind in enumerate(KINDS):
            row: dict[str, Any] = {"session_id": f"session-{number}", "user_id": "u1", "metadata": '{"a": 1}'}
            row |= {"created_at": begun, "expires_at": LATER, "last_activity": begun, "request_count": 3}
            row |= kind.changes
            connection.execute(f"INSERT INTO sessions VALUES ({','.join('?' * 7)})", list(row.values()))
            written.append((row["session_id"], kind.live, kind.metadata))
        for column, live in NOT_UTF_8:
            token = f"session-not-utf-8-{column}"
            values = (token, "u1", "{}", begun, LATER, begun, 3)
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute(f"UPDATE sessions SET {column} = CAST(X'66ff' AS TEXT) WHERE session_id = ?", (token,))
            written.append((token if column != "session_id" else None, live, None))
    return written


def rows(path: Path) -> list[tuple[Any, ...]]:
    """The table byte by byte."""
    quoted = ", ".join(f"hex({c}), typeof({c})" for c in ("session_id", "user_id", "metadata", "expires_at"))
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {quoted} FROM sessions ORDER BY 1, 2").fetchall()


async def test_each_kind_of_row_is_what_it_is_said_to_be(tmp_path: Path, berlin: str) -> None:
    """Whoever was logged in stays so; what cannot be read opens nothing, and is left as it is."""
    path = legacy_file(tmp_path / "legacy.db")
    written = fill(path)
    before = rows(path)
    async with SessionManager(path, sweep_interval=None) as sessions:
        expected = sum(live for _, live, _ in written)
        assert await sessions.get_active_session_count() == expected
        assert len(await sessions.list_sessions(limit=1000)) == expected
        for token, live, metadata in written:
            if not isinstance(token, str):
                continue
            session = await sessions.get_session(token)
            assert (session is not None) == live, token
            assert metadata is None or (session is not None and session.metadata == metadata), token
        # Only what has expired goes: one row.
        assert await sessions.cleanup_expired_sessions() == 1
        assert len(rows(path)) == len(before) - 1
        assert set(rows(path)) <= set(before)
        for token, live, _ in written:
            if isinstance(token, str) and live:
                session = await sessions.validate_session(token)
                assert session is not None
                assert session.last_activity >= session.created_at
        assert await sessions.get_active_session_count() == expected


async def test_nothing_is_left_alone_that_expires_later(tmp_path: Path, berlin: str) -> None:
    """Rows in odd forms expire and are swept like others; those that are no sessions stay for ever."""
    path = legacy_file(tmp_path / "legacy.db")
    written = fill(path)
    clock = MovableClock()
    async with SessionManager(path, clock=clock, sweep_interval=None) as sessions:
        clock.advance(timedelta(days=2))
        endless = 2
        assert await sessions.get_active_session_count() == endless
        await sessions.sweep()
        expired = [token for token, live, _ in written if live]
        assert len(rows(path)) == len(written) - (len(expired) - endless) - 1


@pytest.mark.parametrize("zone", sorted({case.zone for case in CASES}))
async def test_the_table_of_the_reference_holds_for_a_file(tmp_path: Path, zone: str) -> None:
    """Every row of `docs/reference/legacy-rows.md`, in one file per zone: each is the session that the table says."""
    path = legacy_file(tmp_path / "legacy.db")
    expected: list[tuple[str, Readable]] = []
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, case in enumerate(CASES):
            if case.zone != zone:
                continue
            row = case.row if case.column == "session_id" else case.row._replace(session_id=f"session-{number}")
            if any(value is None for value in row[3:6]):
                # The form has NOT NULL there.
                continue
            rowid = connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", row).lastrowid
            (stored,) = connection.execute("SELECT * FROM sessions WHERE rowid = ?", (rowid,))
            outcome = case.outcome()
            # SQLite makes texts of some numbers, and the other way round: then it is another kind's turn.
            if stored == tuple(row) and isinstance(outcome, Readable) and outcome.expires_at > AT:
                expected.append((row.session_id, outcome))
    clock = MovableClock()
    store = LegacyStore(SqliteAddress(path), StoreOptions(), ZoneInfo(zone))
    async with SessionManager(store, clock=clock, sweep_interval=None) as sessions:
        # Back, too: the clock of the table stands still.
        clock.offset = AT - await sessions.ping()
        for token, outcome in expected:
            session = await sessions.get_session(token)
            assert session is not None
            assert (session.user_id, session.expires_at) == (outcome.user_id, outcome.expires_at)
            assert (session.metadata, session.request_count) == (json.loads(outcome.metadata), outcome.request_count)
            assert abs(session.created_at - outcome.created_at) < timedelta(minutes=1)
        listed = {session.id for session in await sessions.list_sessions(limit=1000)}
        assert await sessions.get_active_session_count() == len(listed) >= len(expected) > 0
