"""F-10 and F-11: the primary changes, and an address with two hosts finds the one that takes writes."""

import asyncio
import logging
from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults.bench import Truth, opened, serves, settled, store_of, truth
from tests.faults.conftest import BrokenDatabases
from tests.faults.load import Load
from tests.support.polling import eventually
from tests.support.ports import LOOPBACK
from tests.support.postgres import PostgresCluster

log = logging.getLogger("holdfast.tests")

Pair = tuple[PostgresCluster, PostgresCluster, str]


@pytest.fixture
def pair(breakable: BrokenDatabases) -> Iterator[Pair]:
    """A primary, its standby, and an address of both."""
    primary, address = breakable()
    standby = primary.standby()
    yield primary, standby, address.replace(f":{primary.port}/", f":{primary.port},{LOOPBACK}:{standby.port}/")
    standby.remove()


async def test_failover_to_a_promoted_standby(pair: Pair) -> None:
    """F-10, I-2, I-13: the primary dies, its standby is promoted; writes go on there without a restart."""
    primary, standby, address = pair
    clock = asyncio.get_running_loop().time
    async with opened(address) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running():
            await load.answers()
        # What the standby has not seen when the primary dies is the stated exception of promise 1.
        await asyncio.to_thread(standby.wait_for, primary)
        primary.kill()
        await asyncio.to_thread(standby.promote)
        promoted = clock()
        async with load.running():
            await eventually(partial(serves, manager), what="the new primary is found", deadline=10)
            log.info("seconds to readiness: %s", round(clock() - promoted, 3))
            await load.answers()
        async with truth(standby.address("holdfast_faults")) as facts:
            await load.agrees(facts)
            await settled(manager, facts)


async def test_switchover_with_the_old_primary_alive(pair: Pair) -> None:
    """F-11, I-13: the old primary comes back as a standby at its old place; after 10 s nobody writes to it."""
    primary, standby, address = pair
    clock = asyncio.get_running_loop().time
    async with opened(address) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running():
            await load.answers()
        await asyncio.to_thread(standby.wait_for, primary)
        await asyncio.to_thread(standby.promote)
        await asyncio.to_thread(primary.restart_as_standby_of, standby)
        moved = clock()
        async with load.running():
            await load.answers(100)
            assert load.last_failure < moved + 10
            log.info("seconds with failures: %s", round(max(0.0, load.last_failure - moved), 3))
        async with truth(standby.address("holdfast_faults")) as facts:
            await load.agrees(facts)
            await settled(manager, facts)


async def test_a_primary_that_turns_read_only_is_left(pair: Pair) -> None:
    """F-11, I-12: no connection breaks, every write says 25006: all connections move, and none stays behind."""
    primary, standby, address = pair
    # Nobody is to hear of it: each call has to find the other server, and every connection is made anew meanwhile.
    async with opened(address, deadline=10.0) as manager:
        load = Load(manager)
        await load.prepare()
        async with load.running(callers=12):
            await load.answers()
        await asyncio.to_thread(standby.wait_for, primary)
        await asyncio.to_thread(standby.promote)
        await asyncio.to_thread(primary.force_read_only)
        async with load.running(callers=12):
            await eventually(partial(serves, manager), what="the new primary is found", deadline=10)
            await load.answers(200)
        assert not load.failures, load.texts
        # Reads alone would not notice; the ping and any write do.
        await asyncio.gather(*(manager.extend_session(load.tokens[0]) for _ in range(6)))
        async with truth(standby.address("holdfast_faults")) as facts:
            await load.agrees(facts)
            await settled(manager, facts)
        store = store_of(manager)
        ports = {lane.driver._addr[1] for lane in store._lanes if lane.driver is not None}
        assert ports == {standby.port}
    async with truth(primary.address("holdfast_faults")) as facts:
        await eventually(partial(gone, facts), what="no connection is left at the old primary")
    async with truth(standby.address("holdfast_faults")) as facts:
        await eventually(partial(gone, facts), what="no connection is left at the new primary")


async def gone(facts: Truth) -> bool:
    """Whether a server has no connection of ours."""
    return await facts.backends() == 0
