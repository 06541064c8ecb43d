"""A standby that every commit must reach, and that dies: what it never got is never acknowledged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from holdfast import NewSession, OutcomeUnknown, SessionManager
from holdfast.sessions.session import END_REASONS
from tests.faults.bench import SLACK, Truth, opened, options, settled, truth
from tests.faults.conftest import BrokenDatabases
from tests.support.polling import eventually
from tests.support.postgres import PostgresCluster
from tests.support.stopwatch import Stopwatch

_DEADLINE = 3.0
"""Long enough for a repeat, after the driver gave up waiting for the first commit, to be answered before it passes."""

_ORIGIN = "https://example.org"


@dataclass
class _Prepared:
    """What the operations need, made while the standby lived."""

    manager: SessionManager
    new: NewSession
    user: str
    ticket: str


Operation = Callable[[_Prepared], Awaitable[Any]]


async def _create(given: _Prepared) -> None:
    await given.manager.create_session(given.user)


async def _validate(given: _Prepared) -> None:
    await given.manager.validate_session(given.new.token)


async def _delete(given: _Prepared) -> None:
    await given.manager.delete_session(given.new.token)


async def _rotate(given: _Prepared) -> None:
    await given.manager.rotate_session(given.new.token)


async def _extend(given: _Prepared) -> None:
    await given.manager.extend_session(given.new.token)


async def _update_metadata(given: _Prepared) -> None:
    await given.manager.update_metadata(given.new.token, {"a": 1})


async def _revoke_user(given: _Prepared) -> None:
    await given.manager.revoke_user_sessions(given.user)


async def _erase_user(given: _Prepared) -> None:
    await given.manager.erase_user(given.user)


async def _create_ticket(given: _Prepared) -> None:
    await given.manager.create_ticket(given.new.token)


async def _redeem_ticket(given: _Prepared) -> None:
    await given.manager.redeem_ticket(given.ticket, _ORIGIN)


async def _told(given: _Prepared) -> None:
    await given.manager.store.told([UUID(given.new.id)])


async def _mark_expired(given: _Prepared) -> None:
    await given.manager.store.mark_expired(1)


async def _delete_ended(given: _Prepared) -> None:
    await given.manager.store.delete_ended(1, timedelta(0), END_REASONS)


_OPERATIONS: list[Operation] = [
    _create, _validate, _delete, _rotate, _extend, _update_metadata, _revoke_user, _erase_user, _create_ticket,
    _redeem_ticket, _told, _mark_expired, _delete_ended,
]  # fmt: skip

_NEEDS: dict[Operation, str] = {
    _told: "ended_at = now(), end_reason = 'revoked'",
    _mark_expired: "expires_at = now()",
    _delete_ended: "ended_at = now() - interval '1 day', end_reason = 'expired', notified_at = now()",
}
"""The state that a session must be in for an operation to have something to write."""


@asynccontextmanager
async def _synchronous(breakable: BrokenDatabases) -> AsyncIterator[tuple[PostgresCluster, PostgresCluster, str]]:
    """A primary whose commits wait for its standby."""
    primary, address = breakable()
    standby = await asyncio.to_thread(primary.standby)
    try:
        await asyncio.to_thread(primary.configure, {"synchronous_standby_names": "*"})
        async with truth(address) as facts:
            await eventually(partial(_in_sync, facts), what="the standby is in sync")
        yield primary, standby, address
    finally:
        await asyncio.to_thread(standby.remove)


async def _in_sync(facts: Truth) -> bool:
    return bool(await facts.value("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))


async def _prepared(manager: SessionManager, facts: Truth, operation: Operation) -> _Prepared:
    user = operation.__name__
    new = await manager.create_session(user)
    made = await manager.create_ticket(new.token, _ORIGIN)
    assert made is not None
    if operation in _NEEDS:
        await facts.run(f"UPDATE sessions SET {_NEEDS[operation]} WHERE id = $1", new.id)
    return _Prepared(manager, new, user, made[0])


async def _works(manager: SessionManager) -> None:
    new = await manager.create_session("somebody")
    assert await manager.extend_session(new.token) is not None
    successor = await manager.rotate_session(new.token)
    assert successor is not None
    assert await manager.validate_session(successor.token) is not None
    assert await manager.delete_session(successor.token) is True
    await manager.create_session("somebody")
    assert await manager.revoke_user_sessions("somebody") == 1


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
async def test_nothing_is_acknowledged_that_the_standby_never_got(breakable: BrokenDatabases, pooled: bool) -> None:
    """I-1, I-2, I-7; promises 1 and 2: with the synchronous standby dead, every write ends unknown, none in success.

    When the driver gives up waiting for a commit, PostgreSQL commits here alone; the repeat finds its work done.
    """
    chosen = options(deadline=_DEADLINE, connections=2 * len(_OPERATIONS), pooled=pooled)
    async with _synchronous(breakable) as (primary, standby, address), opened(address, options=chosen) as manager:
        await _works(manager)
        async with truth(address) as facts:
            prepared = [await _prepared(manager, facts, operation) for operation in _OPERATIONS]
            await asyncio.to_thread(standby.kill)
            watch = Stopwatch()
            calls = [operation(given) for operation, given in zip(_OPERATIONS, prepared, strict=True)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert watch.seconds < _DEADLINE + SLACK
            ends = {operation.__name__: answer for operation, answer in zip(_OPERATIONS, answers, strict=True)}
            assert {name: end for name, end in ends.items() if not isinstance(end, OutcomeUnknown)} == {}
            # They did happen here, so a repeat could have been fooled.
            row = await facts.by_id(prepared[_OPERATIONS.index(_delete)].new.id)
            assert row is not None
            assert row["end_reason"] == "revoked"
            await asyncio.to_thread(primary.configure, {"synchronous_standby_names": ""})
            await settled(manager, facts)
            await _works(manager)
            assert await manager.validate_session(prepared[_OPERATIONS.index(_validate)].new.token) is not None


async def test_a_repeat_waits_for_the_standby_and_then_answers(breakable: BrokenDatabases) -> None:
    """I-1, I-2; promises 1 and 2: a repeat that finds its work done answers when the standby has it, not before."""
    async with _synchronous(breakable) as (_, standby, address), opened(address, deadline=20.0) as manager:
        revoked, rotated = await manager.create_session("a"), await manager.create_session("b")
        async with truth(address) as facts:
            await asyncio.to_thread(standby.kill)
            calls = asyncio.gather(
                manager.delete_session(revoked.token),
                manager.rotate_session(rotated.token),
                manager.create_session("c"),
            )
            # A commit whose wait is cut short is a commit here; its caller does not know, and asks again.
            await eventually(partial(_others_wait, facts, []), what="the commits wait")
            first = await facts.value(f"SELECT array_agg(pid) FROM pg_stat_activity WHERE {_WAITS}")
            await facts.run("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", first)
            await eventually(partial(_others_wait, facts, first), what="the repeats' commits wait")
            assert await facts.row(revoked.token) is not None
            assert await facts.row(rotated.token) is None, "it was committed here"
            assert not calls.done()
            await asyncio.to_thread(standby.start)
            ended, successor, created = await calls
        assert ended is True
        assert successor is not None
        await asyncio.to_thread(standby.promote)
        async with truth(standby.address("holdfast_faults")) as there:
            row = await there.by_id(revoked.id)
            assert row is not None
            assert row["end_reason"] == "revoked"
            assert await there.row(successor.token) is not None
            assert await there.row(created.token) is not None


_WAITS = "application_name = 'holdfast' AND wait_event = 'SyncRep'"


async def _others_wait(facts: Truth, but: list[int]) -> bool:
    """Whether three commits of ours wait for the standby, not counting some processes."""
    return bool(
        await facts.value(f"SELECT count(*) = 3 FROM pg_stat_activity WHERE {_WAITS} AND pid <> ALL($1::int[])", but)
    )


async def test_a_row_lock_makes_a_commit_wait(breakable: BrokenDatabases) -> None:
    """Promise 1 rests on it: a transaction that only locks a row waits for the standby, one that reads does not."""
    async with _synchronous(breakable) as (_, standby, address), opened(address) as manager:
        await asyncio.to_thread(standby.kill)
        connection = await asyncpg.connect(address)
        try:
            async with connection.transaction():
                await connection.fetchval("SELECT id FROM holdfast_control WHERE id = 1")
            await connection.execute("BEGIN")
            statement = str(manager.store._sql.durable.compile(dialect=_dialect()))  # type: ignore[attr-defined]  # of SQL
            assert await connection.fetchval(statement, 1) == 1
            with pytest.raises(TimeoutError):
                await connection.execute("COMMIT", timeout=1.0)
        finally:
            connection.terminate()


def _dialect() -> Any:
    from sqlalchemy.dialects.postgresql import asyncpg as dialect

    return dialect.dialect()  # type: ignore[no-untyped-call]  # untyped there
