"""What happens to a PostgreSQL server: killed, stopped, frozen, locked, full."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import asyncpg
import pytest

from holdfast import Overloaded, StoreUnavailable
from tests.faults.bench import DEADLINE, SLACK, Timed, Truth, opened, options, row_locked, serves, settled, truth
from tests.faults.conftest import BrokenDatabases
from tests.faults.load import Load
from tests.support.polling import eventually
from tests.support.postgres import PostgresCluster
from tests.support.stopwatch import Stopwatch

log = logging.getLogger("holdfast.tests")


async def test_backends_ended_under_load(database: str, facts: Truth) -> None:
    """F-01, I-1, I-2, I-12: pg_terminate_backend on any backend, again and again: no caller loses anything."""
    # Forty connections are made anew meanwhile: on a busy machine that takes a call longer than the usual deadline.
    async with opened(database, deadline=10.0) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running():
            for _ in range(20):
                await load.answers(10)
                await facts.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'holdfast' AND datname = current_database() ORDER BY random() LIMIT 2"
                )
            await load.answers(50)
        await load.agrees(facts)
        await settled(manager, facts)
        assert load.longest < 10.0 + SLACK
        assert set(load.failures) <= {"OutcomeUnknown"}, load.texts


async def test_a_crashed_backend_takes_all_others_down(breakable: BrokenDatabases) -> None:
    """F-01: SIGKILL of one backend makes the server end all sessions and recover; so do we."""
    server, address = breakable()
    async with opened(address) as manager:
        load = Load(manager)
        await load.prepare()
        async with truth(address) as facts:
            pid = await facts.backend("%")
        async with load.running():
            await load.answers()
            await asyncio.to_thread(server.kill_backend, pid)
            await asyncio.to_thread(server.wait_until_ready)
            await load.answers()
        async with truth(address) as facts:
            await load.agrees(facts)
            await settled(manager, facts)
        assert load.longest < DEADLINE + SLACK


def kill(server: PostgresCluster) -> None:
    """SIGKILL, and a start that recovers."""
    server.kill()
    server.start()


def stop_fast(server: PostgresCluster) -> None:
    """A planned restart."""
    server.stop("fast")
    server.start()


def stop_immediate(server: PostgresCluster) -> None:
    """A restart in a hurry, which recovers."""
    server.stop("immediate")
    server.start()


@pytest.mark.parametrize("restart", [kill, stop_fast, stop_immediate], ids=lambda restart: restart.__name__)
async def test_restarted_under_load(restart: Callable[[PostgresCluster], None], breakable: BrokenDatabases) -> None:
    """F-02, F-03, I-1, I-2, I-13, I-14: nothing acknowledged is lost, calls end in time, the client recovers."""
    server, address = breakable()
    clock = asyncio.get_running_loop().time
    async with opened(address) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running():
            for _ in range(2):
                await load.answers()
                await asyncio.to_thread(restart, server)
                back = clock()
                await eventually(partial(serves, manager), what="ready again", deadline=10)
                log.info("seconds to readiness: %s", round(clock() - back, 3))
                await load.answers()
        async with truth(address) as facts:
            await load.agrees(facts)
            await settled(manager, facts)
        log.info("longest call: %s; failures: %s", round(load.longest, 3), dict(load.failures))
        assert load.longest < DEADLINE + SLACK, load.texts


async def test_frozen_and_thawed(breakable: BrokenDatabases) -> None:
    """F-04, I-12, I-13, I-14: frozen for longer than two deadlines, then thawed; late work of the server included."""
    server, address = breakable()
    clock = asyncio.get_running_loop().time
    async with opened(address) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running():
            await load.answers()
            await asyncio.to_thread(server.freeze)
            frozen = clock()
            timed = Timed()
            await timed.call(manager.ping())
            assert timed.answers == 0
            assert timed.longest < DEADLINE + SLACK
            await eventually(lambda: clock() - frozen > 2 * DEADLINE + 0.5, what="two deadlines have passed")
            await asyncio.to_thread(server.thaw)
            thawed = clock()
            await eventually(partial(serves, manager), what="ready again", deadline=10)
            log.info("seconds to readiness: %s", round(clock() - thawed, 3))
            await load.answers()
        async with truth(address) as facts:
            await load.agrees(facts)
            await settled(manager, facts)
        log.info("longest call: %s", round(load.longest, 3))
        assert load.longest < DEADLINE + SLACK, load.texts


async def test_closing_while_the_server_is_frozen(breakable: BrokenDatabases) -> None:
    """F-04, I-12: close() under load ends in bounded time, and a manager can be opened again after the thaw."""
    server, address = breakable()
    async with opened(address) as manager:
        load = Load(manager)
        await load.prepare()
        await asyncio.to_thread(server.freeze)
        calls = [asyncio.create_task(load.one()) for _ in range(10)]
        await asyncio.sleep(0)
        watch = Stopwatch()
        await manager.close()
        assert watch.seconds < 2 * DEADLINE + 2.5
        await asyncio.wait(calls)
        await asyncio.to_thread(server.thaw)
        await manager.open()
        await load.answers(0)
        assert await serves(manager)


async def test_opening_a_frozen_server_fails_in_time(breakable: BrokenDatabases) -> None:
    """F-04, I-14: open() says that the store is unavailable, by its deadline, and leaves nothing behind."""
    server, address = breakable()
    await asyncio.to_thread(server.freeze)
    watch = Stopwatch()
    with pytest.raises(StoreUnavailable):
        async with opened(address):
            pass
    assert watch.seconds < 2 * DEADLINE + 2.5
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("holdfast")]


async def test_a_frozen_backend_that_holds_a_row_lock(breakable: BrokenDatabases) -> None:
    """F-05, I-14: whoever needs that row fails by its deadline; whoever needs another one is served."""
    server, address = breakable()
    async with opened(address) as manager:
        locked, other = await manager.create_session(), await manager.create_session()
        async with row_locked(address, locked.id) as holder:
            pid = holder.get_server_pid()
            await asyncio.to_thread(server.freeze_backend, pid)
            touching, stuck, free = Timed(), Timed(), Timed()
            await asyncio.gather(
                touching.call(manager.validate_session(locked.token)),
                stuck.call(manager.extend_session(locked.token)),
                stuck.call(manager.rotate_session(locked.token)),
                stuck.call(manager.delete_session(locked.token)),
                free.call(manager.get_session(locked.token)),
                free.call(manager.extend_session(other.token, 48)),
                free.call(manager.create_session()),
            )
            assert (touching.answers, stuck.answers, free.answers) == (0, 0, 3)
            assert max(touching.longest, stuck.longest, free.longest) < DEADLINE + SLACK
            # A lock time-out is an error reply: certainly not done.
            assert stuck.unknown == 0, stuck.errors
            # As below: a joined attempt that is under way at the deadline may yet find the row free.
            assert touching.refused + touching.unknown == 1
            await asyncio.to_thread(server.thaw_backend, pid)
        assert await manager.validate_session(locked.token) is not None
        async with truth(address) as facts:
            await settled(manager, facts)


async def test_one_locked_row_does_not_stop_the_validates_of_others(database: str, facts: Truth) -> None:
    """F-05: validates are joined; those that share a batch with a locked row are answered all the same."""
    async with opened(database, deadline=4.0) as manager:
        made = [await manager.create_session() for _ in range(20)]
        await asyncio.gather(*(manager.validate_session(new.token) for new in made))
        async with row_locked(database, made[7].id):
            stuck = Timed()
            for _ in range(2):
                free = Timed()
                await asyncio.gather(
                    *((stuck if new is made[7] else free).call(manager.validate_session(new.token)) for new in made)
                )
                assert free.answers == 19, free.errors
                assert free.longest < 4.0 + SLACK
            # Refused, or unknown when its last attempt was under way at the deadline; not each time, though.
            assert (stuck.answers, stuck.refused + stuck.unknown) == (0, 2)
            assert stuck.refused > 0, stuck.errors
            assert stuck.longest < 4.0 + SLACK
        assert await manager.validate_session(made[7].token) is not None
        for new in made:
            row = await facts.row(new.token)
            assert row is not None
            if new is made[7]:
                # What is unknown may be done once the lock is free; what was refused is not.
                assert 2 <= row["request_count"] <= 2 + stuck.unknown
            else:
                assert row["request_count"] == 3
        await settled(manager, facts)


async def test_a_slow_statement_is_ended_by_the_server(database: str, facts: Truth) -> None:
    """57014: the server's time-out comes before ours, so a slow write is definitely not done."""
    async with opened(database) as manager:
        new = await manager.create_session()
        await facts.run(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$"
        )
        await facts.run("CREATE TRIGGER slow BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION slow()")
        timed = Timed()
        await asyncio.gather(
            timed.call(manager.validate_session(new.token)), timed.call(manager.extend_session(new.token))
        )
        assert timed.answers == 0
        assert timed.longest < DEADLINE + SLACK
        await facts.run("DROP TRIGGER slow ON sessions")
        await settled(manager, facts)
        row = await facts.row(new.token)
        assert row is not None
        assert row["request_count"] <= timed.unknown
        assert await manager.validate_session(new.token) is not None


async def test_the_pool_runs_out_and_recovers(database: str, facts: Truth) -> None:
    """F-16, I-14: with every connection waiting, the next call is refused in time, validates go on, and all recover."""
    async with opened(database, options=options(connections=2, deadline=4.0)) as manager:
        new, locked = await manager.create_session(), await manager.create_session()
        await manager.validate_session(new.token)
        async with row_locked(database, locked.id):
            waiting = [asyncio.create_task(Timed().call(manager.extend_session(locked.token))) for _ in range(30)]
            await eventually(facts.waiting_for_a_lock, what="a call waits for the lock")
            timed = Timed()
            await timed.call(manager.get_session(new.token))
            assert timed.longest < 4.0 + SLACK
            assert timed.answers == 1 or isinstance(timed.errors[0], Overloaded), timed.errors
            served = Timed()
            assert await served.call(manager.validate_session(new.token)) is not None
            # Nobody waits longer for a connection, and this call waits for none.
            assert served.longest < 2.0
        await asyncio.wait(waiting)
        assert await manager.get_session(new.token) is not None
        await settled(manager, facts)


async def test_no_connection_left_on_the_server(breakable: BrokenDatabases) -> None:
    """F-17, I-13: max_connections is reached; calls fail in time or wait, and go on when there is room."""
    _, address = breakable({"max_connections": "16", "superuser_reserved_connections": "0"})
    others: list[asyncpg.Connection] = []
    try:
        async with opened(address) as manager:
            new = await manager.create_session()
            while True:
                try:
                    others.append(await asyncpg.connect(address))
                except asyncpg.TooManyConnectionsError:
                    break
            timed = Timed()
            await asyncio.gather(*(timed.call(manager.get_session(new.token)) for _ in range(5)))
            await timed.call(manager.validate_session(new.token))
            assert timed.longest < DEADLINE + SLACK
            assert timed.unknown == 0
            for other in others:
                other.terminate()
            await eventually(partial(serves, manager), what="room again")
            assert await manager.validate_session(new.token) is not None
            async with truth(address) as facts:
                await settled(manager, facts)
    finally:
        for other in others:
            other.terminate()
