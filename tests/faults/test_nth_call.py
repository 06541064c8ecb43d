"""F-42: every operation keeps its promises when any one of its calls to PostgreSQL fails, before or after it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, Literal
from uuid import UUID

import pytest

from holdfast import NewSession, OutcomeUnknown, SessionManager, StoreUnavailable
from holdfast.sessions.session import END_REASONS
from tests.faults.bench import Truth, opened, settled, store_of
from tests.support.polling import eventually
from tests.support.proxy import FaultProxy, Trap

Mode = Literal["request lost", "answer lost"]
"""Before sending: the server never hears of it. After: it does it - a COMMIT too - and nobody hears of that."""

MODES: tuple[Mode, ...] = ("request lost", "answer lost")
PATIENCE = 10.0
"""Seconds that a call may take: a lost connection is found out at once, and a busy machine is no second fault."""


class Case:
    """One round: a fresh session of a fresh user, and what is known before the fault."""

    def __init__(self, manager: SessionManager, facts: Truth, new: NewSession, user: str) -> None:
        self.manager = manager
        self.facts = facts
        self.new = new
        self.user = user

    async def row(self) -> Any:
        """The session's row now."""
        return await self.facts.by_id(self.new.id)

    async def count(self, condition: str) -> Any:
        """How many rows of the user there are with a condition."""
        return await self.facts.value(f"SELECT count(*) FROM sessions WHERE user_id = $1 AND {condition}", self.user)


Operation = Callable[[Case], Awaitable[None]]


async def create(case: Case) -> None:
    made = await case.manager.create_session(case.user, {"a": 1})
    row = await case.facts.row(made.token)
    assert row is not None
    assert (str(row["id"]), row["expires_at"]) == (made.id, made.expires_at)
    assert await case.count("true") == 2


async def validate(case: Case) -> None:
    before = (await case.row())["request_count"]
    try:
        session = await case.manager.validate_session(case.new.token)
    except OutcomeUnknown:
        assert (await case.row())["request_count"] in (before, before + 1)
    except StoreUnavailable:
        assert (await case.row())["request_count"] == before
    else:
        assert session is not None
        assert session.request_count == before + 1 == (await case.row())["request_count"]


async def get(case: Case) -> None:
    session = await case.manager.get_session(case.new.token)
    assert session is not None
    assert session.id == case.new.id


async def get_by_id(case: Case) -> None:
    session = await case.manager.get_by_id(case.new.id)
    assert session is not None
    assert session.user_id == case.user


async def extend(case: Case) -> None:
    expires_at = await case.manager.extend_session(case.new.token, 48)
    assert expires_at == (await case.row())["expires_at"]
    assert expires_at > case.new.expires_at + timedelta(hours=23)


async def rotate(case: Case) -> None:
    successor = await case.manager.rotate_session(case.new.token)
    assert successor is not None
    assert await case.facts.row(case.new.token) is None
    row = await case.facts.row(successor.token)
    assert row is not None
    assert str(row["id"]) == case.new.id == successor.id


async def update_metadata(case: Case) -> None:
    session = await case.manager.update_metadata(case.new.token, {"kept": None, "changed": 2})
    assert session is not None
    assert session.metadata == {"changed": 2}
    assert await case.facts.value("SELECT metadata->'changed' FROM sessions WHERE id = $1", case.new.id) == "2"


async def delete(case: Case) -> None:
    assert await case.manager.delete_session(case.new.token) is True
    assert (await case.row())["end_reason"] == "revoked"


async def end_session(case: Case) -> None:
    assert await case.manager.end_session(case.new.id) is True
    assert (await case.row())["end_reason"] == "revoked"


async def revoke_user(case: Case) -> None:
    kept = (await case.manager.list_sessions(case.user))[0].id
    assert kept == case.new.id
    for _ in range(2):
        await case.facts.run(
            "INSERT INTO sessions (id, digest, user_id, metadata, created_at, expires_at, last_activity) "
            "SELECT uuidv7(), sha256(uuidv7()::text::bytea), user_id, metadata, created_at, expires_at, last_activity "
            "FROM sessions WHERE id = $1",
            case.new.id,
        )
    assert await case.manager.revoke_user_sessions(case.user, keep=kept) == 2
    assert await case.count("ended_at IS NULL") == 1


async def erase_user(case: Case) -> None:
    assert await case.manager.erase_user(case.user) == 1
    assert await case.count("true") == 0


async def why(case: Case) -> None:
    assert await case.manager.why_ended(case.new.token) is None


async def list_sessions(case: Case) -> None:
    assert [session.id for session in await case.manager.list_sessions(case.user)] == [case.new.id]


async def active_count(case: Case) -> None:
    live = await case.facts.value("SELECT count(*) FROM sessions WHERE ended_at IS NULL")
    assert await case.manager.get_active_session_count() == live


async def ping(case: Case) -> None:
    await case.manager.ping()


async def tickets(case: Case) -> None:
    made = await case.manager.create_ticket(case.new.token, "https://example.org")
    assert made is not None
    session = await case.manager.redeem_ticket(made[0], "https://example.org")
    assert session is not None
    assert session.id == case.new.id
    assert await case.manager.redeem_ticket(made[0], "https://example.org") is None


async def expect_hooks(case: Case) -> None:
    await case.manager.store.expect_hooks()
    assert await case.facts.value("SELECT hooks_expected_at IS NOT NULL FROM holdfast_control")
    await case.facts.run("UPDATE holdfast_control SET hooks_expected_at = NULL")


async def told(case: Case) -> None:
    await case.facts.run("UPDATE sessions SET ended_at = now(), end_reason = 'revoked' WHERE id = $1", case.new.id)
    await case.manager.store.told([UUID(case.new.id)])
    assert (await case.row())["notified_at"] is not None
    assert case.new.id not in {end.id for end in await case.manager.store.untold(10, timedelta(0))}


async def mark_expired(case: Case) -> None:
    await case.facts.run("UPDATE sessions SET expires_at = now() WHERE id = $1", case.new.id)
    ends = await case.manager.store.mark_expired(10)
    assert [(end.id, end.reason) for end in ends] == [(case.new.id, "expired")]
    assert (await case.row())["end_reason"] == "expired"


async def delete_ended(case: Case) -> None:
    await case.facts.run("UPDATE sessions SET ended_at = now(), end_reason = 'revoked' WHERE id = $1", case.new.id)
    assert await case.manager.store.delete_ended(10, timedelta(0), END_REASONS) == 1
    assert await case.row() is None


async def cleanup(case: Case) -> None:
    await case.facts.run("UPDATE sessions SET expires_at = now() WHERE id = $1", case.new.id)
    assert await case.manager.cleanup_expired_sessions() == 1
    assert await case.row() is None


async def sweep(case: Case) -> None:
    await case.facts.run("UPDATE sessions SET expires_at = now() WHERE id = $1", case.new.id)
    assert (await case.manager.sweep()).marked == 1
    assert (await case.row())["end_reason"] == "expired"


async def end_of(case: Case) -> None:
    await case.facts.run("UPDATE sessions SET ended_at = now(), end_reason = 'revoked' WHERE id = $1", case.new.id)
    end = await case.manager.store.end_of(UUID(case.new.id))
    assert end is not None
    assert end.reason == "revoked"


OPERATIONS: list[Operation] = [
    create, validate, get, get_by_id, extend, rotate, update_metadata, delete, end_session, revoke_user, erase_user,
    why, list_sessions, active_count, ping, tickets, expect_hooks, told, mark_expired, delete_ended, cleanup, sweep,
    end_of,
]  # fmt: skip


def lanes_closed(manager: SessionManager) -> bool:
    """Whether no lane has a connection that works."""
    return all(lane.driver is None or lane.driver.is_closed() for lane in store_of(manager)._lanes)


def nth_statement(network: FaultProxy, number: int, mode: Mode) -> Trap:
    """Fail the statement number `number` from now, over all connections."""
    seen = count(1)

    def matches(_: bytes) -> bool:
        return next(seen) == number

    return network.drop_request(matches) if mode == "request lost" else network.drop_next_answer(matches)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_every_call_failed_in_turn(
    operation: Operation, mode: Mode, database: str, network: FaultProxy, facts: Truth
) -> None:
    """F-42, S-15, I-2, I-12: whichever statement fails, the answer agrees with the database; nothing is left behind."""
    async with opened(network.address(database), deadline=PATIENCE) as manager:
        await manager.validate_session((await manager.create_session()).token)
        for number in count(1):
            new = await manager.create_session(f"user {number}", {"kept": 1})
            trap = nth_statement(network, number, mode)
            await operation(Case(manager, facts, new, f"user {number}"))
            if not trap.sprung.is_set():
                network.conditions.traps.clear()
                break
            await settled(manager, facts)
            another = await manager.create_session()
            session = await manager.validate_session(another.token)
            assert session is not None
            assert session.id == another.id
            await facts.run("DELETE FROM sessions")
        assert number > 1, "no statement was ever met"
        await settled(manager, facts)


@pytest.mark.parametrize("mode", MODES)
async def test_every_call_failed_in_turn_while_connecting(
    mode: Mode, database: str, network: FaultProxy, facts: Truth
) -> None:
    """F-42: the same for the first calls on new connections, with everything that is asked while they are made."""
    async with opened(network.address(database), deadline=PATIENCE) as manager:
        acknowledged = unknown = 0
        new = await manager.create_session()
        for number in count(1):
            # Every connection is gone, and found out to be.
            network.cut()
            await eventually(partial(lanes_closed, manager), what="the lanes know")
            trap = nth_statement(network, number, mode)
            try:
                session = await manager.validate_session(new.token)
            except OutcomeUnknown:
                unknown += 1
            else:
                assert session is not None
                acknowledged += 1
            row = await facts.by_id(new.id)
            assert row is not None
            assert acknowledged <= row["request_count"] <= acknowledged + unknown
            if not trap.sprung.is_set():
                network.conditions.traps.clear()
                break
        await settled(manager, facts)
        assert number > 2


@pytest.mark.parametrize("mode", MODES)
async def test_every_call_failed_in_turn_while_opening(
    mode: Mode, database: str, network: FaultProxy, facts: Truth
) -> None:
    """F-42: opening fails whole, with nothing left open, or succeeds; the next attempt is not the worse for it."""
    for number in count(1):
        trap = nth_statement(network, number, mode)
        manager = SessionManager(network.address(database), sweep_interval=None)
        try:
            await manager.open()
        except StoreUnavailable:
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("holdfast-")]
        await manager.close()
        if not trap.sprung.is_set():
            network.conditions.traps.clear()
            break
    assert number > 2

    async def gone() -> bool:
        return await facts.backends() == 0

    # The server hears of a connection that was reset when it comes to its turn.
    await eventually(gone, what="no connection of ours is left")
