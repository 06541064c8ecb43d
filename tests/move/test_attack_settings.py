"""Settings that somebody else has given the role or the database, and that Holdfast has to make no difference of."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast import SessionManager, StoreOptions, StoreRefused
from holdfast.move.planning import plan
from holdfast.move.state import MoveRefused
from holdfast.sql import schema
from tests.move.bench import Place
from tests.move.crowd import crowd
from tests.move.test_faults import there_and_back
from tests.support.admin import Databases
from tests.support.polling import eventually
from tests.support.pooler import TransactionPooler

ODD = {
    "default_transaction_isolation": "serializable",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "search_path": "nowhere",
    "row_security": "off",
    "synchronous_commit": "off",
    "statement_timeout": "50",
    "lock_timeout": "20",
    "idle_in_transaction_session_timeout": "50",
}


async def give(place: Place, settings: dict[str, str]) -> None:
    """Let every later connection to the database begin with some settings."""
    database = urlsplit(place.address).path[1:]
    for name, value in settings.items():
        await place.in_postgresql(f"ALTER DATABASE \"{database}\" SET {name} = '{value}'")


async def test_odd_defaults_move_there_and_back(place: Place) -> None:
    """Under other defaults of isolation, times, spelling and durability a move loses nothing either."""
    await place.fill(30)
    await give(place, ODD)
    async with crowd(place, processes=1, callers=3) as ledger, place.mover() as mover:
        await there_and_back(mover, ledger)
    await give(place, {"search_path": "public"})
    await ledger.check(place, "postgresql")


async def test_a_role_that_keeps_no_foreign_keys_is_refused(place: Place) -> None:
    """Where an erased session would leave its tickets behind, which SQLite does not, neither store nor move opens."""
    await place.fill(3)
    await give(place, {"session_replication_role": "replica"})
    with pytest.raises(StoreRefused, match="RESET session_replication_role"):
        await SessionManager(place.address, sweep_interval=None).open()
    with pytest.raises(StoreRefused, match="RESET session_replication_role"):
        async with place.mover():
            pass
    await give(place, {"session_replication_role": "local"})
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_cap_holds_under_a_default_of_repeatable_read(place: Place, *, pooled: bool) -> None:
    """A create that has waited for another one's counts it, although the role's default is an older snapshot."""
    await give(place, {"default_transaction_isolation": "repeatable read"})
    async with AsyncExitStack() as stack:
        address = place.address
        if pooled:
            address = (await stack.enter_async_context(TransactionPooler(place.address, size=8))).address
        manager = SessionManager(
            address, sweep_interval=None, max_sessions_per_user=1, options=StoreOptions(pooled=pooled)
        )
        await stack.enter_async_context(manager)
        await asyncio.gather(*(manager.create_session("u1") for _ in range(6)), return_exceptions=True)
        assert await manager.get_active_session_count() == 1


async def test_a_create_under_way_is_seen_by_a_move_under_repeatable_read(place: Place) -> None:
    """A move goes into an empty store only, also where a client commits while the move waits to close it."""
    await place.fill(3)
    async with place.manager("postgresql") as manager:
        await manager.create_session("u1")
    [row] = await place.in_postgresql("DELETE FROM sessions RETURNING *")
    await give(place, {"default_transaction_isolation": "repeatable read"})
    client = await asyncpg.connect(place.address)
    try:
        async with place.mover() as mover:
            transaction = client.transaction()
            await transaction.start()
            await client.execute("INSERT INTO sessions SELECT ($1::sessions).*", tuple(row))
            starting = asyncio.create_task(mover.start())

            async def waits() -> bool:
                return bool(await place.in_postgresql("SELECT 1 FROM pg_locks WHERE NOT granted"))

            await eventually(waits, what="the move waits for the client")
            await transaction.commit()
            with pytest.raises(MoveRefused, match="sessions of its own"):
                await starting
            assert len(await place.in_postgresql("SELECT 1 FROM sessions")) == 1
    finally:
        await client.close()


async def test_a_database_that_cannot_hold_every_text_is_refused(tmp_path: Path, postgres: Databases) -> None:
    """Where a name in Korean could not be stored, `plan` says so, and nothing is begun."""
    name = f"holdfast_test_{secrets.token_hex(8)}"
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        place = Place(tmp_path / "sessions.db", postgres.address(name))
        await schema.upgrade(place.path)
        await schema.upgrade(place.address)
        found = await plan(place.path, place.address, StoreOptions(), backups=None)
        assert [each.what for each in found.refusals] == [
            "the database has the encoding LATIN1, which has no place for every text"
        ]
        async with place.mover() as mover:
            with pytest.raises(MoveRefused, match="UTF8"):
                await mover.start()
        async with place.manager() as manager:
            assert await manager.validate_session((await manager.create_session("한국")).token) is not None
    finally:
        postgres.drop_database(name)


async def test_a_cut_over_to_a_clock_that_is_behind_is_refused(place: Place) -> None:
    """Promise 2: a session that has run out does not live again because PostgreSQL's clock is minutes behind."""
    await place.fill(3)
    await place.in_postgresql("CREATE SCHEMA slow")
    await place.in_postgresql(
        "CREATE FUNCTION slow.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE "
        "AS $$ SELECT pg_catalog.clock_timestamp() - interval '2 minutes' $$"
    )
    # What stands before `pg_catalog` in the path is found first, by every statement of Holdfast's too.
    await place.in_postgresql(f'ALTER DATABASE "{urlsplit(place.address).path[1:]}" SET search_path = slow, pg_catalog')
    async with place.mover() as mover:
        await mover.start()
        with pytest.raises(MoveRefused, match=r"clock is 1[12]\d\.\d s behind this machine's"):
            await mover.cut_over()
        assert (await mover.look()).sqlite.authority == "here"
        await give(place, {"search_path": "public"})
    async with place.mover() as mover:
        await mover.cut_over()
        assert (await mover.look()).sqlite.authority == "there"
