"""Hearing of other servers' ends while what carries the news fails: the poll behind it is the promise (promise 6)."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from holdfast import End, NewSession, SessionManager, StoreUnavailable, Watch
from holdfast.sessions.store import Channel
from holdfast.sessions.watches import FRESH_SECONDS, POLL_SECONDS
from holdfast.sql.listener import MAX_IDS
from holdfast.testing.clock import MovableClock
from tests.faults.bench import Truth, opened, options
from tests.faults.conftest import BrokenDatabases
from tests.support.polling import eventually
from tests.support.pooler import TransactionPooler
from tests.support.proxy import FaultProxy
from tests.support.stopwatch import Stopwatch

PUSH_DOWN_SECONDS = 10.0
"""Promise 6, while nobody is told of anything."""


@asynccontextmanager
async def watching(manager: SessionManager, new: NewSession) -> AsyncIterator["asyncio.Task[End | None]"]:
    """A task that waits for the end of a session."""
    async with manager.watch(new.token) as watch:
        waiting = asyncio.create_task(watch.wait())
        yield waiting
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def has_channel(manager: SessionManager, channel: Channel) -> None:
    """Wait until other servers' ends arrive in this way."""
    await eventually(lambda: manager.watches.channel == channel, what=f"the channel is {channel}")


async def listeners(facts: Truth) -> int:
    """How many connections listen."""
    found = await facts.value(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast-listener' "
        "AND datname = current_database()"
    )
    assert isinstance(found, int)
    return found


async def heard_in(waiting: "asyncio.Task[End | None]", seconds: float) -> None:
    """Wait until the end is heard of, which must take less than so many seconds."""
    watch = Stopwatch()
    async with asyncio.timeout(seconds + 10):
        assert await waiting is not None
    assert watch.seconds < seconds


async def test_another_servers_end_is_heard_at_once(database: str, facts: Truth) -> None:
    """By NOTIFY, in well under a second; one listening connection for all watches, none before the first."""
    async with opened(database, deadline=10.0) as here, opened(database, deadline=10.0) as there:
        assert here.watches.channel == "idle"
        assert await listeners(facts) == 0
        made = [await there.create_session("u1") for _ in range(20)]
        async with watching(here, made[0]) as first, watching(here, made[1]) as second:
            await has_channel(here, "push")
            assert await listeners(facts) == 1
            assert await there.end_session(made[0].id)
            await heard_in(first, 1.0)
            assert await there.revoke_user_sessions("u1") == 19
            await heard_in(second, 1.0)

    async def gone() -> bool:
        return await listeners(facts) == 0

    # It says no goodbye: the server hears of its end when it comes to its turn.
    await eventually(gone, what="nobody listens any more")


async def test_more_ends_than_a_hint_can_name(database: str) -> None:
    """One user with many sessions: the hint says to look at everything, and every watch hears (F-21)."""
    async with opened(database, deadline=10.0) as here, opened(database, deadline=10.0) as there:
        made = await asyncio.gather(*(there.create_session("u1") for _ in range(MAX_IDS + 50)))
        other = await there.create_session("u2")
        watches: list[Watch] = [here.watch(new.token) for new in (*made[:3], *made[-3:])]  # type: ignore[misc]  # it is
        for watch in watches:
            await watch.__aenter__()
        async with watching(here, other) as living:
            await has_channel(here, "push")
            assert await there.revoke_user_sessions("u1") == MAX_IDS + 50
            async with asyncio.timeout(30):
                ends = await asyncio.gather(*(watch.wait() for watch in watches))
            assert all(end is not None and end.reason == "revoked" for end in ends)
            assert not living.done()
        for watch in watches:
            await watch.__aexit__(None, None, None)


async def test_a_lost_listener_degrades_to_polling_and_comes_back(database: str, facts: Truth) -> None:
    """F-19: its backend is ended while sessions are revoked: all are heard of, and it is told again afterwards."""
    async with opened(database, deadline=10.0) as here, opened(database, deadline=10.0) as there:
        made = [await there.create_session("u1") for _ in range(3)]
        async with watching(here, made[0]) as first, watching(here, made[1]) as second:
            await has_channel(here, "push")
            await facts.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast-listener' "
                "AND datname = current_database()"
            )
            assert await there.end_session(made[0].id)
            await heard_in(first, PUSH_DOWN_SECONDS)
            await has_channel(here, "push")
            assert await there.end_session(made[1].id)
            await heard_in(second, 1.0)


async def test_a_listener_cut_off_in_silence_is_found_out(database: str, network: FaultProxy) -> None:
    """F-19: the line to the listener carries nothing any more: what it missed is heard of by asking, within 10 s."""
    async with opened(database, options=options(listen=network.address(database))) as here, opened(database) as there:
        made = [await there.create_session() for _ in range(2)]
        async with watching(here, made[0]) as first, watching(here, made[1]) as second:
            await has_channel(here, "push")
            network.hold()
            assert await there.end_session(made[0].id)
            await heard_in(first, PUSH_DOWN_SECONDS)
            await has_channel(here, "polling")
            assert await there.end_session(made[1].id)
            network.cut()
            await network.pass_through()
            await heard_in(second, PUSH_DOWN_SECONDS)
            await has_channel(here, "push")


async def test_behind_a_pooler_ends_are_polled(database: str) -> None:
    """F-22: LISTEN would stay with a server connection that the next transaction does not get."""
    async with (
        TransactionPooler(database, size=2) as pooler,
        opened(pooler.address, options=options(pooled=True)) as here,
        opened(pooler.address, options=options(pooled=True)) as there,
    ):
        new = await there.create_session()
        async with watching(here, new) as waiting:
            await asyncio.sleep(0)
            assert here.watches.channel == "polling"
            assert await there.end_session(new.id)
            await heard_in(waiting, PUSH_DOWN_SECONDS)


async def test_past_a_pooler_ends_are_pushed(database: str) -> None:
    """F-22: with an address that leads past it they are heard at once, from servers behind the pooler too."""
    async with TransactionPooler(database, size=2) as pooler:
        behind = options(pooled=True, listen=database)
        async with opened(pooler.address, options=behind) as here, opened(pooler.address, options=behind) as there:
            new = await there.create_session()
            async with watching(here, new) as waiting:
                await has_channel(here, "push")
                assert await there.end_session(new.id)
                await heard_in(waiting, 1.0)


async def fill_queue(connection: "asyncpg.Connection[Any]") -> None:
    """Notify until the queue takes no more, which is an error."""
    while True:
        await connection.execute("SELECT pg_notify('elsewhere', repeat('x', 7000) || n) FROM generate_series(1, 50) n")


async def test_a_stuck_notification_queue_stops_no_end(breakable: BrokenDatabases) -> None:
    """F-20: the queue is full because a listener sits in a transaction: ends are made, and found by asking."""
    _, address = breakable({"max_notify_queue_pages": "64"})
    stuck = await asyncpg.connect(address)
    try:
        await stuck.execute("LISTEN elsewhere")
        await stuck.execute("BEGIN")
        await stuck.fetchval("SELECT 1")
        filling = await asyncpg.connect(address)
        try:
            with pytest.raises(asyncpg.PostgresError):
                await fill_queue(filling)
        finally:
            filling.terminate()
        async with opened(address, deadline=10.0) as here, opened(address, deadline=10.0) as there:
            made = [await there.create_session("u1") for _ in range(3)]
            async with watching(here, made[0]) as waiting:
                assert await there.end_session(made[0].id)
                assert await there.revoke_user_sessions("u1") == 2
                assert await here.get_active_session_count() == 0
                await heard_in(waiting, PUSH_DOWN_SECONDS)
    finally:
        stuck.terminate()


FORGED = [
    "",
    "*",
    "x",
    ",",
    "null",
    "{}",
    "hfs_" + "a" * 51,
    "0" * 32,
    "01938a5e-7b1c-7f3e-8f4a-2b6f0c9d1e22",
    "é" * 900,
]


async def test_forged_hints_change_nothing(database: str, facts: Truth) -> None:
    """S-73: anyone may send one. Sessions live on, and a flood costs a few looks, not one for each."""
    # The flood may keep a busy machine longer than the deadline of most fault tests; it is no part of this one.
    async with opened(database, deadline=10.0) as here, opened(database, deadline=10.0) as there:
        new = await there.create_session()
        async with watching(here, new) as waiting:
            await has_channel(here, "push")
            for text in (*FORGED, new.id, ",".join([new.id] * 200), secrets.token_hex(3000)):
                await facts.run("SELECT pg_notify('holdfast_public', $1)", text)
            flood = "SELECT pg_notify('holdfast_public', $1 || ',' || n) FROM generate_series(1, 10000) n"
            await facts.run(flood, new.id)
            await facts.run(flood, "*")
            # What is true comes through all the same.
            assert not waiting.done()
            assert await here.validate_session(new.token)
            assert await there.end_session(new.id)
            await heard_in(waiting, PUSH_DOWN_SECONDS)


async def test_a_failed_over_listener_finds_the_primary(database: str, facts: Truth) -> None:
    """A server that takes no writes any more tells nobody of anything: the listener leaves it (F-11)."""
    async with opened(database) as here:
        new = await here.create_session()
        async with watching(here, new):
            await has_channel(here, "push")
            name = await facts.value("SELECT current_database()")
            await facts.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            await facts.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast-listener' "
                "AND datname = current_database()"
            )
            await has_channel(here, "polling")
            await facts.run("SET default_transaction_read_only = off")
            await facts.run(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
            await has_channel(here, "push")


async def test_nothing_counts_as_live_unseen_for_long(database: str, network: FaultProxy) -> None:
    """F-30: what was not confirmed for ten seconds is confirmed again before anything is delivered, or refused."""
    clock = MovableClock()
    async with opened(network.address(database), clock=clock) as here, opened(database, clock=clock) as there:
        new = await there.create_session()
        session = await here.validate_session(new.token)
        assert session is not None
        attachment = here.watches.attach(session)
        await attachment.confirm()
        network.hold()
        # A process that stood still: time has passed, and it has not looked.
        clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
        with pytest.raises(StoreUnavailable):
            await attachment.confirm()
        assert await there.end_session(new.id)
        network.cut()
        await network.pass_through()
        clock.advance(POLL_SECONDS)
        await eventually(attachment.end.done, what="the end is known")
        await attachment.confirm()
        assert attachment.end.result().id == new.id
        attachment.close()
