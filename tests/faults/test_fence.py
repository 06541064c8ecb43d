"""The fence: once it is closed, no write reaches the sessions, whoever sends it, and reads go on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from holdfast import AuthorityMoved, NewSession, OutcomeUnknown, SessionManager, StoreUnavailable
from holdfast.sessions.session import END_REASONS
from tests.faults.bench import Truth, opened, settled
from tests.support.polling import eventually

Write = Callable[[SessionManager, NewSession], Awaitable[object]]

WRITES: dict[str, Write] = {
    "create": lambda sessions, new: sessions.create_session("u1"),
    "validate": lambda sessions, new: sessions.validate_session(new.token),
    "extend": lambda sessions, new: sessions.extend_session(new.token),
    "rotate": lambda sessions, new: sessions.rotate_session(new.token),
    "metadata": lambda sessions, new: sessions.update_metadata(new.token, {"a": 1}),
    "delete": lambda sessions, new: sessions.delete_session(new.token),
    "end": lambda sessions, new: sessions.end_session(new.id),
    "revoke": lambda sessions, new: sessions.revoke_user_sessions("u1"),
    "erase": lambda sessions, new: sessions.erase_user("u1"),
    "ticket": lambda sessions, new: sessions.create_ticket(new.token),
    "cleanup": lambda sessions, new: sessions.cleanup_expired_sessions(),
    "sweep": lambda sessions, new: sessions.sweep(),
    "told": lambda sessions, new: sessions.store.told([UUID(new.id)]),
    "delete ended": lambda sessions, new: sessions.store.delete_ended(10, timedelta(0), END_REASONS),
}


async def fence(facts: Truth, how: str) -> None:
    """Switch all four triggers: `ENABLE ALWAYS` or `DISABLE`."""
    for table in ("sessions", "holdfast_tickets"):
        for trigger in ("holdfast_fence", "holdfast_fence_truncate"):
            await facts.run(f"ALTER TABLE {table} {how} TRIGGER {trigger}")


async def test_a_closed_fence_refuses_every_write_and_no_read(database: str, facts: Truth) -> None:
    """Fence: each write raises AuthorityMoved and changes nothing; reads answer; opened again, writes work."""
    async with opened(database) as manager:
        new = await manager.create_session("u1")
        await manager.validate_session(new.token)
        before = await facts.by_id(new.id)
        await fence(facts, "ENABLE ALWAYS")
        for write in WRITES.values():
            with pytest.raises(AuthorityMoved):
                await write(manager, new)
        assert await facts.by_id(new.id) == before
        assert await facts.value("SELECT count(*) FROM sessions") == 1
        assert await manager.get_session(new.token) is not None
        assert await manager.why_ended(new.token) is None
        assert len(await manager.list_sessions("u1")) == await manager.get_active_session_count() == 1
        await fence(facts, "DISABLE")
        assert (await manager.validate_session(new.token) or before) is not before
        assert await manager.delete_session(new.token)
        await settled(manager, facts)


async def test_the_fence_closes_under_load(database: str, facts: Truth) -> None:
    """Fence, promise 5: writes on their way are made whole or refused; the count is what was acknowledged."""
    async with opened(database, deadline=30.0) as manager:
        new = await manager.create_session("u1")
        acknowledged = refused = unknown = 0

        async def caller() -> None:
            nonlocal acknowledged, refused, unknown
            while True:
                try:
                    await manager.validate_session(new.token)
                    acknowledged += 1
                except AuthorityMoved:
                    refused += 1
                    return
                except OutcomeUnknown:
                    unknown += 1
                except StoreUnavailable:
                    pass

        callers = [asyncio.create_task(caller()) for _ in range(20)]
        await eventually(lambda: acknowledged >= 100, what="a hundred validates")
        await fence(facts, "ENABLE ALWAYS")
        await asyncio.gather(*callers)
        assert refused == 20
        row = await facts.by_id(new.id)
        assert row is not None
        assert acknowledged <= row["request_count"] <= acknowledged + unknown
        assert unknown == 0


@pytest.mark.parametrize("role", ["origin", "replica"])
async def test_the_fence_stops_everybody(database: str, facts: Truth, role: str) -> None:
    """Fence: COPY, TRUNCATE and a session_replication_role that turns ordinary triggers off are stopped too."""
    async with opened(database) as manager:
        await manager.create_session("u1")
    await fence(facts, "ENABLE ALWAYS")
    other = await asyncpg.connect(database)
    try:
        await other.execute(f"SET session_replication_role = {role}")
        for statement in (
            "TRUNCATE sessions CASCADE",
            "TRUNCATE holdfast_tickets",
            "DELETE FROM sessions",
            "UPDATE sessions SET request_count = 5",
            "INSERT INTO sessions SELECT * FROM sessions",
            "DELETE FROM holdfast_tickets",
        ):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await other.execute(statement)
            assert caught.value.sqlstate == "HF001", statement
        with pytest.raises(asyncpg.PostgresError) as caught:
            await other.copy_records_to_table("sessions", records=[], columns=["id"])
        assert caught.value.sqlstate == "HF001"
    finally:
        other.terminate()
