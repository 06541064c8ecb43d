"""F-42 on a legacy file: every operation keeps its promises when any one of its calls to the library fails."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from holdfast import NewSession, OutcomeUnknown, SessionManager, StoreUnavailable
from holdfast.legacy import beside
from holdfast.sessions.session import END_REASONS
from holdfast.sessions.tokens import clear_digest_of_new, digest_of_new, new_ticket
from tests.faults.sqlite_bench import opened, plain, value, whole
from tests.faults.test_sqlite_nth_call import BUSY, FAULTS, FaultyConnection, Plan, plans
from tests.legacy.old_application import OldSessionManager, legacy_file, local_now, text

IN_PAST = "2001-01-01 00:00:00"


# The manager's own look for others' ends may hold the lock at that very moment; it comes four times a second.
_BRIEFLY = "PRAGMA busy_timeout = 200"


class LegacyPlan(Plan):
    """Setting how long to wait does not fail either: it is a number in memory."""

    def fails(self, statement: str) -> bool:
        return not statement.startswith("PRAGMA busy_timeout") and super().fails(statement)


@pytest_asyncio.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SessionManager]:
    """A manager on a legacy file, all of whose calls to SQLite can be made to fail."""
    faulty(monkeypatch)
    async with opened(legacy_file(tmp_path / "sessions.db")) as opened_manager:
        yield opened_manager
        plans.clear()


def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores that are opened from now on connect so that their calls can be made to fail."""

    class Library:
        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

        def connect(self, *arguments: Any, **more: Any) -> sqlite3.Connection:
            return sqlite3.connect(*arguments, factory=FaultyConnection, **more)

    monkeypatch.setattr(beside, "sqlite3", Library())


@dataclass
class Case:
    """One round: a fresh session of a fresh user, and one that the old application has just made."""

    manager: SessionManager
    path: Path
    new: NewSession
    user: str
    ticket: str

    def row(self) -> dict[str, Any]:
        """The session's row."""
        with plain(self.path) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM sessions WHERE session_id = ?", (self.new.token,)).fetchone()
        return {} if found is None else dict(found)

    def ended(self) -> Any:
        """How the session ended; `None` when there is no trace of an end."""
        return value(self.path, "SELECT end_reason FROM holdfast_ended WHERE id = ?", UUID(self.new.id).hex)

    def number(self, table: str, column: str, of: str) -> Any:
        """How many rows of a table have a value."""
        return value(self.path, f"SELECT count(*) FROM {table} WHERE {column} = ?", of)


@dataclass
class Operation:
    """What is called, and how the file shows that it was done. Without that it is a reading."""

    call: Callable[[Case], Awaitable[Any]]
    done: Callable[[Case], bool] | None = None
    before: str | None = None


def ended(case: Case) -> bool:
    """The row is gone and the trace is there, both."""
    assert (case.row() == {}) == (case.ended() is not None)
    return case.row() == {}


OPERATIONS: dict[str, Operation] = {
    "create": Operation(
        lambda case: case.manager.create_session(case.user, {"a": 1}),
        lambda case: case.number("sessions", "user_id", case.user) == 2,
    ),
    "validate": Operation(
        lambda case: case.manager.validate_session(case.new.token), lambda case: case.row()["request_count"] == 1
    ),
    "extend": Operation(
        lambda case: case.manager.extend_session(case.new.token, 48),
        lambda case: case.row()["expires_at"] > text(local_now() + timedelta(hours=24)),
        "expires_at = strftime('%Y-%m-%d %H:%M:%S', 'now', '+2 hours')",
    ),
    "rotate": Operation(lambda case: case.manager.rotate_session(case.new.token), lambda case: case.row() == {}),
    "update_metadata": Operation(
        lambda case: case.manager.update_metadata(case.new.token, {"a": 1}),
        lambda case: case.row()["metadata"] == '{"a":1}',
    ),
    "delete": Operation(lambda case: case.manager.delete_session(case.new.token), ended),
    "revoke_user": Operation(lambda case: case.manager.revoke_user_sessions(case.user), ended),
    "erase_user": Operation(
        lambda case: case.manager.store.erase_user(case.user),
        lambda case: case.row() == {} and case.number("holdfast_owners", "user_id", case.user) == 0,
    ),
    "create_ticket": Operation(
        lambda case: case.manager.create_ticket(case.new.token),
        lambda case: case.number("holdfast_tickets", "session_id", UUID(case.new.id).hex) == 2,
    ),
    "take_ticket": Operation(
        lambda case: case.manager.store.take_ticket(digest_of_new(case.ticket), None),
        lambda case: case.number("holdfast_tickets", "session_id", UUID(case.new.id).hex) == 0,
    ),
    "mark_expired": Operation(lambda case: case.manager.store.mark_expired(10), ended, f"expires_at = '{IN_PAST}'"),
    "get": Operation(lambda case: case.manager.get_session(case.new.token)),
    "why": Operation(lambda case: case.manager.why_ended(case.new.token)),
    "list": Operation(lambda case: case.manager.list_sessions(case.user)),
    "count": Operation(lambda case: case.manager.get_active_session_count()),
    "delete_ended": Operation(lambda case: case.manager.store.delete_ended(10, timedelta(0), END_REASONS)),
    "ping": Operation(lambda case: case.manager.ping()),
}
QUICK = {"create": "disk error after it was done", "validate": "busy"}
ALL = [
    pytest.param(name, fault, marks=() if QUICK.get(name) == fault else pytest.mark.soak)
    for name in OPERATIONS
    for fault in FAULTS
]


@pytest.mark.parametrize(("name", "fault"), ALL)
async def test_every_call_failed_in_turn(name: str, fault: str, manager: SessionManager, tmp_path: Path) -> None:
    """A definite failure was not done, an answer was, nothing is left behind, and no row is seen half adopted."""
    path, operation, (code, done) = tmp_path / "sessions.db", OPERATIONS[name], FAULTS[fault]
    old = OldSessionManager(path)
    for number in count(1):
        new = await manager.create_session(f"user {number}")
        ticket = new_ticket()
        await manager.store.create_ticket(digest_of_new(ticket), clear_digest_of_new(new.token), None)
        case = Case(manager, path, new, f"user {number}", ticket)
        with plain(path) as connection:
            connection.execute(_BRIEFLY)
            change = operation.before or "request_count = 0"
            connection.execute(f"UPDATE sessions SET {change} WHERE session_id = ?", (new.token,))
        theirs, gone = old.create_session("old"), old.create_session("old")
        assert old.delete_session(gone)
        plans.append(plan := LegacyPlan(number, code, done=done))
        try:
            await operation.call(case)
        except OutcomeUnknown:
            assert done, "the commit was undone, and known to be"
        except StoreUnavailable:
            assert code != BUSY, "one moment of waiting never reaches the caller"
            assert operation.done is None or not operation.done(case)
        else:
            assert operation.done is None or operation.done(case)
        plans.clear()
        with plain(path) as connection:
            connection.execute(_BRIEFLY)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        session = await manager.validate_session(theirs)
        assert session is not None
        assert session.request_count == 1
        assert await manager.validate_session(gone) is None
        # What a failure has left to be swept is not the next round's affair: a sweep takes ten.
        await manager.store.mark_expired(10)
        if not plan.met:
            break
    assert number > 1
    assert whole(path)
    for table in ("ids", "owners"):
        statement = f"SELECT count(*), count(DISTINCT id) FROM holdfast_{table}"
        with plain(path) as connection:
            rows, ids = connection.execute(statement).fetchone()
        assert rows == ids


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_call_failed_in_turn_while_opening(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening fails whole, in our own words, or succeeds; the next attempt is not the worse for it."""
    code, done = FAULTS[fault]
    for number in count(1):
        path = legacy_file(tmp_path / f"{number}.db")
        old = OldSessionManager(path)
        tokens = [old.create_session(f"u{n}") for n in range(3)]
        with monkeypatch.context() as patched:
            faulty(patched)
            plans.append(plan := LegacyPlan(number, code, done=done))
            with suppress(StoreUnavailable):
                async with opened(path):
                    pass
            plans.clear()
        async with opened(path) as manager:
            for token in tokens:
                assert await manager.validate_session(token)
            assert len(await manager.list_sessions("u1")) == 1
            assert await manager.get_active_session_count() == 3
        if not plan.met:
            break
    assert number > 10
