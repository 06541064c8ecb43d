"""F-22: a transaction pooler in front of PostgreSQL, as PgBouncer is: nothing stays with a connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from holdfast.sessions.store import Store, StoreOptions
from holdfast.sql.stores import store_at
from holdfast.testing.suite import StoreSuite
from tests.conftest import MigratedDatabases
from tests.faults.bench import SLACK, Timed, Truth, opened, options, row_locked, settled
from tests.support.pooler import TransactionPooler


@pytest_asyncio.fixture
async def pooler(database: str) -> AsyncIterator[TransactionPooler]:
    """A pooler with two server connections for everybody."""
    async with TransactionPooler(database, size=2) as made:
        yield made


class TestBehindAPooler(StoreSuite):
    """F-22: the suite, through a pooler, told by the option."""

    rounds = 5
    hints = False

    @pytest_asyncio.fixture(autouse=True)
    async def databases(self, emptied_database: MigratedDatabases) -> AsyncIterator[None]:
        """Where the databases come from."""
        self.emptied_database = emptied_database
        self.poolers: list[TransactionPooler] = []
        yield
        for pooler in self.poolers:
            await pooler.__aexit__()

    async def new_store(self) -> Store:
        pooler = TransactionPooler(self.emptied_database(None), size=3)
        self.poolers.append(await pooler.__aenter__())
        return await self.same_store()

    async def same_store(self) -> Store:
        return store_at(self.poolers[-1].address, StoreOptions(connections=3, pooled=True))


async def test_the_address_can_say_that_there_is_a_pooler(pooler: TransactionPooler, facts: Truth) -> None:
    """F-22: `?pgbouncer=true` does what the option does; fifty callers share two server connections."""
    async with opened(f"{pooler.address}?pgbouncer=true", deadline=5.0) as manager:
        made = await asyncio.gather(*(manager.create_session("u1", {"n": n}) for n in range(50)))
        sessions = await asyncio.gather(*(manager.validate_session(new.token) for new in made))
        assert [session.metadata["n"] for session in sessions if session] == list(range(50))
        await asyncio.gather(*(manager.extend_session(new.token, 48) for new in made[:20]))
        assert await manager.revoke_user_sessions("u1", keep=made[0].id) == 49
        assert await manager.get_active_session_count() == 1
        await settled(manager, facts)
        assert pooler.transactions > 20


async def test_writes_are_durable_and_bounded_behind_a_pooler(
    database: str, pooler: TransactionPooler, facts: Truth
) -> None:
    """F-22, promise 1: whatever the server's default, every write has synchronous_commit and time-outs."""
    name = await facts.value("SELECT current_database()")
    await facts.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await facts.run("CREATE TABLE seen (operation text, durable text, statement text, lock text)")
    await facts.run(
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen VALUES (tg_op, current_setting('synchronous_commit'), "
        "current_setting('statement_timeout'), current_setting('lock_timeout')); RETURN NULL; END $$"
    )
    await facts.run(
        "CREATE TRIGGER look AFTER INSERT OR UPDATE OR DELETE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION look()"
    )
    async with opened(pooler.address, options=options(pooled=True)) as manager:
        new = await manager.create_session("u1")
        await manager.validate_session(new.token)
        await manager.extend_session(new.token)
        await manager.revoke_user_sessions("u1")
        await manager.erase_user("u1")
    rows: list[Any] = await facts.connection.fetch("SELECT * FROM seen")
    assert len(rows) >= 5
    for row in rows:
        assert row["durable"] == "on", row
        assert "0" not in (row["statement"], row["lock"]), row


async def test_a_lock_behind_a_pooler_ends_by_the_servers_time_out(
    database: str, pooler: TransactionPooler, facts: Truth
) -> None:
    """F-22, F-05: the lock time-out is set in the transaction, so that waiting is a definite failure."""
    async with opened(pooler.address, options=options(pooled=True)) as manager:
        new = await manager.create_session("u1")
        async with row_locked(database, new.id):
            timed = Timed()
            await timed.call(manager.extend_session(new.token))
            assert (timed.refused, timed.unknown) == (1, 0), timed.errors
            assert timed.longest < 1.5 + SLACK
        assert await manager.validate_session(new.token) is not None
        await settled(manager, facts)
