"""Locks, deadlocks and floods between our own calls, and changes of the schema under them."""

import asyncio
from functools import partial

import asyncpg

from holdfast.sql.views import VIEWS
from tests.faults.bench import DEADLINE, SLACK, Timed, Truth, met_a_lock, opened, row_locked, settled
from tests.faults.load import Load
from tests.support.polling import eventually


async def test_deadlocks_with_strangers_are_retried(database: str, facts: Truth) -> None:
    """F-15, promise 5: another program locks rows in the opposite order; whoever is the victim, we answer exactly."""
    async with opened(database, deadline=10.0) as manager:
        made = [await manager.create_session("u1") for _ in range(2)]
        deadlocks = 0
        for _ in range(3):
            stranger = await asyncpg.connect(database)
            try:
                await stranger.execute("SET deadlock_timeout = '5s'")
                await stranger.execute("BEGIN")
                await stranger.execute("SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE", made[1].id)
                await facts.run("SELECT pg_stat_clear_snapshot()")
                revoking = asyncio.create_task(manager.revoke_user_sessions("u1"))
                await eventually(facts.waiting_for_a_lock, what="the revoke holds one row and waits for the other")
                try:
                    await stranger.execute("SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE", made[0].id)
                except asyncpg.DeadlockDetectedError:
                    pass
                else:
                    deadlocks += 1
                await stranger.execute("ROLLBACK")
            finally:
                stranger.terminate()
            assert await revoking == 2
            made = [await manager.create_session("u1") for _ in range(2)]
        assert deadlocks > 0, "we were never the victim"
        await settled(manager, facts)


async def test_a_ticket_for_a_session_that_is_just_erased(database: str, facts: Truth) -> None:
    """Another server erases the user while a ticket is made: there is no ticket, and that is no error."""
    async with opened(database, deadline=10.0) as manager:
        new = await manager.create_session("u1")
        erasing = await asyncpg.connect(database)
        try:
            await erasing.execute("BEGIN")
            await erasing.execute("DELETE FROM sessions WHERE id = $1", new.id)
            making = asyncio.create_task(manager.create_ticket(new.token))
            await eventually(facts.waiting_for_a_lock, what="the ticket waits for the erasure")
            await erasing.execute("COMMIT")
        finally:
            erasing.terminate()
        assert await making is None
        assert await facts.value("SELECT count(*) FROM holdfast_tickets") == 0
        await settled(manager, facts)


async def test_serialization_failures_are_retried(database: str, facts: Truth) -> None:
    """F-15: a database whose default is serializable; conflicts are retried inside, and counts stay exact."""
    name = await facts.value("SELECT current_database()")
    await facts.run(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    async with opened(database, deadline=30.0) as here, opened(database, deadline=30.0) as there:
        new = await here.create_session("u1")
        for _ in range(10):
            await asyncio.gather(
                *(server.validate_session(new.token) for server in (here, there) for _ in range(5)),
                *(server.extend_session(new.token, 30) for server in (here, there)),
                *(server.update_metadata(new.token, {"a": 1}) for server in (here, there)),
            )
        row = await facts.by_id(new.id)
        assert row is not None
        assert row["request_count"] == 100
        await settled(here, facts)


async def test_a_lone_validate_is_not_delayed_by_creates_that_wait(database: str, facts: Truth) -> None:
    """Lanes: every create lane waits for a user's lock; validates, and plain calls, go their own way."""
    async with opened(database, deadline=4.0) as manager:
        new = await manager.create_session("other")
        await manager.validate_session(new.token)
        holder = await asyncpg.connect(database)
        try:
            await holder.execute("BEGIN")
            await holder.execute("LOCK TABLE holdfast_tickets")
            await holder.execute("SELECT pg_advisory_xact_lock(hashtextextended('u1', 7163402915))")
            creating = [asyncio.create_task(Timed().call(manager.create_session("u1"))) for _ in range(500)]
            await eventually(facts.waiting_for_a_lock, what="creates wait")
            timed = Timed()
            for _ in range(5):
                await timed.call(manager.validate_session(new.token))
                await timed.call(manager.extend_session(new.token))
            assert timed.answers == 10
            # The creates give the lock up after half a second, and whoever waited for them would have waited as long.
            assert timed.usual < 0.5
        finally:
            holder.terminate()
        await asyncio.wait(creating)
        await settled(manager, facts)


async def test_one_locked_user_does_not_stop_the_creates_of_others(database: str, facts: Truth) -> None:
    """F-05: creates are joined too; those that share a batch with a locked user's are made all the same."""
    async with opened(database, deadline=4.0) as manager:
        holder = await asyncpg.connect(database)
        try:
            await holder.execute("BEGIN")
            await holder.execute("SELECT pg_advisory_xact_lock(hashtextextended('locked', 7163402915))")
            stuck, free = Timed(), Timed()
            calls = [free.call(manager.create_session(f"u{n}")) for n in range(19)]
            calls.insert(7, stuck.call(manager.create_session("locked")))
            await asyncio.gather(*calls)
            assert (free.answers, stuck.answers) == (19, 0)
            # Refused, or unknown when its last attempt was under way at the deadline.
            assert stuck.refused + stuck.unknown == 1
        finally:
            holder.terminate()
        # What is unknown may be made once the lock is free; what was refused is not.
        assert 19 <= await facts.value("SELECT count(*) FROM sessions") <= 19 + stuck.unknown
        await settled(manager, facts)


async def test_a_revoke_is_not_delayed_by_validates_that_wait(database: str, facts: Truth) -> None:
    """Lanes: a flood of validates meets a locked row; a revoke of another user, and a create, are served at once."""
    async with opened(database, deadline=4.0) as manager:
        locked, other = await manager.create_session("u1"), await manager.create_session("u2")
        async with row_locked(database, locked.id):
            validating = [asyncio.create_task(Timed().call(manager.validate_session(locked.token))) for _ in range(500)]
            await eventually(partial(met_a_lock, manager, facts), what="validates wait")
            timed = Timed()
            for revoked in (1, 0, 0):
                assert await timed.call(manager.revoke_user_sessions("u2")) == revoked
                await timed.call(manager.create_session("u3"))
            assert timed.answers == 6
            # As above: whoever waits for such a batch waits for half a second.
            assert timed.usual < 0.5
        await asyncio.wait(validating)
        assert await manager.validate_session(other.token) is None
        await settled(manager, facts)


async def test_the_schema_changes_under_load(database: str, facts: Truth) -> None:
    """F-23, I-14: columns come and go while calls run; old plans are made anew, and no caller hears of it."""
    async with opened(database, deadline=20.0) as manager:
        load = Load(manager)
        await load.prepare()
        # Nobody can change the type of a column that a view shows.
        for view in VIEWS:
            await facts.run(f"DROP VIEW {view}")
        async with load.running(callers=5):
            for number in range(5):
                await load.answers(20)
                await facts.run(f"ALTER TABLE sessions ADD COLUMN extra_{number} text DEFAULT 'x'")
                await load.answers(20)
                await facts.run("ALTER TABLE sessions ALTER COLUMN user_id TYPE varchar(300)")
                await load.answers(20)
                await facts.run(f"ALTER TABLE sessions DROP COLUMN extra_{number}")
                await facts.run("ALTER TABLE sessions ALTER COLUMN user_id TYPE text")
                await load.answers(20)
                for token in load.tokens[:3]:
                    await manager.get_session(token)
                    await manager.extend_session(token)
                    await manager.list_sessions("load")
        assert not load.failures, load.texts
        assert load.longest < 20.0 + SLACK
        await load.agrees(facts)
        await settled(manager, facts)


async def test_a_call_never_takes_longer_than_its_deadline_under_contention(database: str, facts: Truth) -> None:
    """I-14: a hot user whose row somebody locks for longer than any deadline; every call ends in time."""
    async with opened(database) as manager:
        new = await manager.create_session("hot")
        timed = Timed()
        async with row_locked(database, new.id):
            await asyncio.gather(
                *(timed.call(manager.validate_session(new.token)) for _ in range(50)),
                *(timed.call(manager.update_metadata(new.token, {"a": n})) for n in range(10)),
                *(timed.call(manager.revoke_user_sessions("hot")) for _ in range(5)),
            )
        assert timed.answers == 0
        assert timed.longest < DEADLINE + SLACK
        await settled(manager, facts)
        row = await facts.by_id(new.id)
        assert row is not None
        assert row["request_count"] <= timed.unknown
