"""What the network does to a connection: silence, resets at any byte, lost answers, hosts that are not there."""

import asyncio
import random
from functools import partial

import pytest

from holdfast import OutcomeUnknown, StoreUnavailable
from tests.faults.bench import DEADLINE, SLACK, Timed, Truth, opened, serves, settled, store_of
from tests.faults.load import Load
from tests.support.admin import with_place
from tests.support.polling import eventually
from tests.support.ports import LOOPBACK
from tests.support.proxy import Direction, FaultProxy
from tests.support.stopwatch import Stopwatch


async def test_silence_ends_every_call_by_its_deadline(database: str, network: FaultProxy, facts: Truth) -> None:
    """F-06, I-13, I-14: connections that go silent, and new ones that are accepted and never answered."""
    async with opened(network.address(database)) as manager:
        load = Load(manager)
        await load.prepare()
        network.hold()
        timed = Timed()
        new = load.tokens[0]
        calls = [
            timed.call(call)
            for _ in range(5)
            for call in (
                manager.validate_session(new),
                manager.create_session("load"),
                manager.get_session(new),
                manager.extend_session(new, 25),
                manager.rotate_session(new),
                manager.get_active_session_count(),
                manager.revoke_user_sessions("nobody"),
                manager.ping(),
            )
        ]
        await asyncio.gather(*calls)
        assert timed.answers == 0
        assert timed.longest < DEADLINE + SLACK
        again = Timed()
        await asyncio.gather(again.call(manager.ping()), again.call(manager.validate_session(new)))
        assert again.longest < DEADLINE + SLACK
        await network.pass_through()
        await eventually(partial(serves, manager), what="the store answers again")
        async with load.running():
            await load.answers()
        await settled(manager, facts)


async def test_closing_while_the_network_is_silent_ends_soon(database: str, network: FaultProxy) -> None:
    """F-06, I-12: close() while calls hang, and while no server says goodbye, ends in bounded time."""
    async with opened(network.address(database)) as manager:
        new = await manager.create_session()
        await asyncio.gather(*(manager.validate_session(new.token) for _ in range(5)), manager.get_session(new.token))
        network.hold()
        calls: list[asyncio.Task[object]] = []
        for _ in range(3):
            calls.append(asyncio.create_task(manager.validate_session(new.token)))
            calls.append(asyncio.create_task(manager.extend_session(new.token, 25)))
        calls[0].cancel()
        await asyncio.sleep(0)
        watch = Stopwatch()
        await manager.close()
        took = watch.seconds
        await asyncio.wait(calls)
        for call in calls[1:]:
            with pytest.raises(StoreUnavailable):
                call.result()
        assert took < 2 * DEADLINE + 2.5
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not {name for name in names if name.startswith("holdfast")}


async def test_closing_an_idle_store_while_the_network_is_silent(database: str, network: FaultProxy) -> None:
    """F-06: the goodbye to the server is not waited for longer than a moment."""
    async with opened(network.address(database)) as manager:
        new = await manager.create_session()
        await manager.validate_session(new.token)
        network.hold()
        watch = Stopwatch()
        await manager.close()
        assert watch.seconds < 1.0 + SLACK


async def test_cancelled_callers_leave_nothing_that_tries_for_ever(database: str, network: FaultProxy) -> None:
    """I-12: a call whose caller was cancelled while the server is away ends with its deadline, not with the server."""
    async with opened(network.address(database)) as manager:
        new = await manager.create_session()
        network.cut()
        network.refuse()
        calls = [
            asyncio.create_task(call)
            for call in (
                manager.get_session(new.token),
                manager.extend_session(new.token),
                manager.validate_session(new.token),
                manager.create_session(),
            )
        ]

        def tried() -> bool:
            load = manager.load()
            return load is not None and load.queued >= 2

        await eventually(tried, what="writes wait for the server to be back")
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await settled(manager)


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
async def test_resets_at_random_bytes(direction: Direction, database: str, network: FaultProxy, facts: Truth) -> None:
    """F-07, I-1, I-2, promise 5: a reset after any number of bytes, in the middle of a message or not."""
    chance = random.Random(7)
    # Sixty connections are made anew meanwhile: on a busy machine that takes a call longer than the usual deadline.
    async with opened(network.address(database), deadline=10.0) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running(callers=5):
            for _ in range(60):
                network.reset_after(chance.randrange(1, 3000), direction)
                await eventually(lambda: direction not in network.conditions.budget, what="the reset")
        await load.agrees(facts)
        await settled(manager, facts)
        assert load.longest < 10.0 + SLACK
        assert set(load.failures) <= {"OutcomeUnknown"}, load.texts


async def test_the_lost_answer_to_a_touch_is_unknown_and_never_repeated(
    database: str, network: FaultProxy, facts: Truth
) -> None:
    """F-08, promise 5: many callers share a lost answer; each is told, none is counted twice."""
    # No deadline passes here: the rest of the callers wait for a new connection, on a busy machine for a while.
    async with opened(network.address(database), deadline=10.0) as manager:
        new = await manager.create_session()
        for round_number in range(1, 6):
            trap = network.drop_answer_to(b"request_count +")
            timed = Timed()
            await asyncio.gather(*(timed.call(manager.validate_session(new.token)) for _ in range(20)))
            assert trap.sprung.is_set()
            row = await facts.row(new.token)
            assert row is not None
            assert timed.unknown > 0
            assert timed.answers + timed.unknown == 20
            assert row["request_count"] <= 20 * round_number
        await settled(manager, facts)


async def test_the_lost_answer_to_a_commit_is_found_out(database: str, network: FaultProxy, facts: Truth) -> None:
    """F-08, I-2, I-6: the answer to COMMIT is lost; the caller still gets the truth."""
    # As above: what is asked again needs a new connection.
    async with opened(network.address(database), deadline=10.0) as manager:
        new = await manager.create_session("u1")
        for _ in range(5):
            trap = network.drop_answer_to(b"COMMIT")
            successor = await manager.rotate_session(new.token)
            assert trap.sprung.is_set()
            assert successor is not None
            assert await manager.get_session(new.token) is None
            assert await manager.get_session(successor.token) is not None
            new = successor
        trap = network.drop_answer_to(b"COMMIT")
        assert await manager.delete_session(new.token) is True
        assert trap.sprung.is_set()
        assert await manager.delete_session(new.token) is False


async def test_a_lost_create_whose_read_back_fails_is_unknown(database: str, network: FaultProxy, facts: Truth) -> None:
    """I-2, F-42: the answer to a create is lost, and then nobody can be asked: unknown, never "nothing was done"."""
    async with opened(network.address(database)) as manager:
        await manager.create_session("u1")
        trap = network.drop_answer_to(b"INSERT INTO")
        creating = asyncio.create_task(manager.create_session("u1"))
        await trap.sprung.wait()
        network.refuse()
        network.cut()
        with pytest.raises(OutcomeUnknown):
            await creating
        assert await facts.value("SELECT count(*) FROM sessions") == 2


async def test_a_silent_first_host_does_not_hide_the_second(database: str, network: FaultProxy, facts: Truth) -> None:
    """F-10, I-13: the first host of the address accepts and says nothing, as without power; the next serves."""
    network.hold()
    port = int(database.rpartition("@")[2].partition("/")[0].rpartition(":")[2])
    address = with_place(database, LOOPBACK, network.port).replace(
        f":{network.port}/", f":{network.port},{LOOPBACK}:{port}/"
    )
    watch = Stopwatch()
    async with opened(address) as manager:
        new = await manager.create_session()
        assert watch.seconds < 2 * DEADLINE
        asked = network.counters.accepted
        await asyncio.gather(*(manager.get_session(new.token) for _ in range(10)))
        assert network.counters.accepted == asked, "the host that served is asked first"
        assert len(store_of(manager)._lanes) == 6
        await settled(manager, facts)
