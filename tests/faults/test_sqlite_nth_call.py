"""F-42 on SQLite: every operation keeps its promises when any one of its calls to the library fails."""

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
from sqlalchemy import Engine, event

from holdfast import NewSession, OutcomeUnknown, SessionManager, StoreUnavailable
from holdfast.sessions.session import END_REASONS
from holdfast.sessions.tokens import digest_of_new, new_ticket
from holdfast.sql import writer
from tests.faults.sqlite_bench import opened, plain, row, value, whole, writer_of

BUSY, IOERR, FULL = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL


class Plan:
    """Which call from now fails, how, and whether it was done before it failed."""

    def __init__(self, at: int, code: int, *, done: bool) -> None:
        self.left = at
        self.code = code
        self.done = done
        self.met = False

    def fails(self, statement: str) -> bool:
        """Whether this call is the one."""
        if self.met or statement.startswith("ROLLBACK"):
            # Leaving a transaction does not fail: SQLite has nothing to write for that.
            return False
        self.left -= 1
        self.met = self.left == 0
        return self.met

    def error(self) -> sqlite3.OperationalError:
        """As SQLite would raise it."""
        error = sqlite3.OperationalError("a planned fault")
        error.sqlite_errorcode = self.code
        error.sqlite_errorname = {BUSY: "SQLITE_BUSY", IOERR: "SQLITE_IOERR", FULL: "SQLITE_FULL"}[self.code]
        return error


plans: list[Plan] = []


class FaultyCursor(sqlite3.Cursor):
    """A cursor that fails when the plan says so."""

    def execute(self, statement: str, *arguments: Any) -> "FaultyCursor":
        plan = plans[-1] if plans else None
        if plan is None or not plan.fails(statement):
            super().execute(statement, *arguments)
            return self
        if plan.done:
            super().execute(statement, *arguments)
            # As the driver does with a statement that failed: it is reset, and holds no lock.
            self.close()
        raise plan.error()

    def executemany(self, statement: str, arguments: Any) -> "FaultyCursor":
        plan = plans[-1] if plans else None
        if plan is None or not plan.fails(statement):
            super().executemany(statement, arguments)
            return self
        if plan.done:
            super().executemany(statement, arguments)
            self.close()
        raise plan.error()


class FaultyConnection(sqlite3.Connection):
    """A connection whose every call goes through such a cursor."""

    def cursor(self, *_: Any) -> FaultyCursor:  # type: ignore[override]  # one kind of cursor is enough here
        return super().cursor(FaultyCursor)

    def execute(self, statement: str, *arguments: Any) -> FaultyCursor:
        return self.cursor().execute(statement, *arguments)


def _faulty(_: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
    parameters["factory"] = FaultyConnection


@pytest_asyncio.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SessionManager]:
    """A manager all of whose calls to SQLite can be made to fail, checkpoints after each batch included."""
    monkeypatch.setattr(writer, "_CHECKPOINT_BYTES", 0)
    event.listen(Engine, "do_connect", _faulty)
    try:
        async with opened(tmp_path / "sessions.db") as opened_manager:
            yield opened_manager
            plans.clear()
    finally:
        plans.clear()
        event.remove(Engine, "do_connect", _faulty)


@dataclass
class Case:
    """One round: a fresh session of a fresh user."""

    manager: SessionManager
    path: Path
    new: NewSession
    user: str
    ticket: str

    def row(self) -> dict[str, Any]:
        """The session's row."""
        with plain(self.path) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM sessions WHERE id = ?", (UUID(self.new.id).hex,)).fetchone()
        return {} if found is None else dict(found)

    def set(self, assignments: str) -> None:
        """Change the session's row behind the store's back."""
        with plain(self.path) as connection:
            connection.execute(f"UPDATE sessions SET {assignments} WHERE id = ?", (UUID(self.new.id).hex,))


Check = Callable[[Case], bool]


@dataclass
class Operation:
    """What is called, and how the file shows that it was done. Without that it is a reading."""

    call: Callable[[Case], Awaitable[Any]]
    done: Check | None = None
    before: str | None = None


OPERATIONS: dict[str, Operation] = {
    "create": Operation(
        lambda case: case.manager.create_session(case.user, {"a": 1}),
        lambda case: value(case.path, "SELECT count(*) FROM sessions WHERE user_id = ?", case.user) == 2,
    ),
    "validate": Operation(
        lambda case: case.manager.validate_session(case.new.token), lambda case: case.row()["request_count"] == 1
    ),
    "extend": Operation(
        lambda case: case.manager.extend_session(case.new.token, 48),
        lambda case: case.row()["expires_at"] - case.row()["created_at"] > 47 * 3_600_000_000,
    ),
    "rotate": Operation(
        lambda case: case.manager.rotate_session(case.new.token),
        lambda case: case.row()["digest"] != digest_of_new(case.new.token),
    ),
    "update_metadata": Operation(
        lambda case: case.manager.update_metadata(case.new.token, {"a": 1}),
        lambda case: case.row()["metadata"] == '{"a":1}',
    ),
    "delete": Operation(
        lambda case: case.manager.delete_session(case.new.token), lambda case: case.row()["end_reason"] == "revoked"
    ),
    "revoke_user": Operation(
        lambda case: case.manager.revoke_user_sessions(case.user), lambda case: case.row()["end_reason"] == "revoked"
    ),
    "erase_user": Operation(lambda case: case.manager.store.erase_user(case.user), lambda case: not case.row()),
    "create_ticket": Operation(
        lambda case: case.manager.create_ticket(case.new.token),
        lambda case: (
            value(case.path, "SELECT count(*) FROM holdfast_tickets WHERE session_id = ?", UUID(case.new.id).hex) == 2
        ),
    ),
    "take_ticket": Operation(
        lambda case: case.manager.store.take_ticket(digest_of_new(case.ticket), None),
        lambda case: (
            value(case.path, "SELECT count(*) FROM holdfast_tickets WHERE session_id = ?", UUID(case.new.id).hex) == 0
        ),
    ),
    "expect_hooks": Operation(
        lambda case: case.manager.store.expect_hooks(),
        lambda case: value(case.path, "SELECT hooks_expected_at FROM holdfast_control") is not None,
    ),
    "mark_expired": Operation(
        lambda case: case.manager.store.mark_expired(10),
        lambda case: case.row()["end_reason"] == "expired",
        "expires_at = 1",
    ),
    "told": Operation(
        lambda case: case.manager.store.told([UUID(case.new.id)]),
        lambda case: case.row()["notified_at"] is not None,
        "ended_at = 1, end_reason = 'revoked'",
    ),
    "delete_ended": Operation(
        lambda case: case.manager.store.delete_ended(10, timedelta(0), END_REASONS),
        lambda case: not case.row(),
        "ended_at = 1, end_reason = 'revoked', notified_at = 1",
    ),
    "get": Operation(lambda case: case.manager.get_session(case.new.token)),
    "why": Operation(lambda case: case.manager.why_ended(case.new.token)),
    "list": Operation(lambda case: case.manager.list_sessions(case.user)),
    "count": Operation(lambda case: case.manager.get_active_session_count()),
    "end_of": Operation(lambda case: case.manager.store.end_of(UUID(case.new.id))),
    "untold": Operation(lambda case: case.manager.store.untold(10, timedelta(0))),
    "ping": Operation(lambda case: case.manager.ping()),
}

FAULTS = {
    "busy": (BUSY, False),
    "disk error": (IOERR, False),
    "disk full": (FULL, False),
    "disk error after it was done": (IOERR, True),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_call_failed_in_turn(name: str, fault: str, manager: SessionManager, tmp_path: Path) -> None:
    """F-42, S-15, I-2, I-12: a definite failure was not done, an answer was, and nothing is left behind."""
    path, operation, (code, done) = tmp_path / "sessions.db", OPERATIONS[name], FAULTS[fault]
    for number in count(1):
        new = await manager.create_session(f"user {number}")
        ticket = new_ticket()
        await manager.store.create_ticket(digest_of_new(ticket), digest_of_new(new.token), None)
        case = Case(manager, path, new, f"user {number}", ticket)
        case.set(operation.before or "request_count = 0")
        with plain(path) as connection:
            connection.execute("UPDATE holdfast_control SET hooks_expected_at = NULL")
        writer_of(manager)._next_checkpoint = 0
        plans.append(plan := Plan(number, code, done=done))
        try:
            await operation.call(case)
        except OutcomeUnknown:
            assert operation.done is not None or name == "ping"
            assert done, "the commit was undone, and known to be"
        except StoreUnavailable:
            assert code != BUSY, "one moment of waiting never reaches the caller"
            assert operation.done is None or not operation.done(case)
        else:
            assert operation.done is None or operation.done(case)
        plans.clear()
        # Nothing holds the lock, and the next caller is served.
        with plain(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        another = await manager.create_session()
        assert await manager.validate_session(another.token) is not None
        found = row(path, another.token)
        assert found is not None
        assert found["request_count"] == 1
        if not plan.met:
            break
    assert number > 1
    assert whole(path)


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_call_failed_in_turn_while_opening(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-42: opening fails whole, in our own words, or succeeds; the next attempt is not the worse for it."""
    code, done = FAULTS[fault]
    event.listen(Engine, "do_connect", _faulty)
    try:
        for number in count(1):
            path = tmp_path / f"{number}.db"
            plans.append(plan := Plan(number, code, done=done))
            with suppress(StoreUnavailable):
                async with opened(path):
                    pass
            plans.clear()
            # How long the next attempt takes is no matter here.
            async with opened(path, deadline=10.0) as manager:
                new = await manager.create_session()
                assert await manager.validate_session(new.token) is not None
            if not plan.met:
                break
    finally:
        plans.clear()
        event.remove(Engine, "do_connect", _faulty)
    assert number > 10
