"""Opening over a line that is slow, to another region, say: it works, and costs few round trips."""

import pytest

from holdfast import StoreOptions, StoreUnavailable
from tests.faults.bench import SLACK, Truth, opened, settled
from tests.support.polling import eventually
from tests.support.proxy import FaultProxy
from tests.support.stopwatch import Stopwatch

DEADLINE = 2.0


async def test_a_slow_line_lets_a_store_open(database: str, network: FaultProxy, facts: Truth) -> None:
    """All that an opening asks, with the handshake, may take longer than one call: each step has its own deadline."""
    network.latency(0.1)
    async with opened(network.address(database), deadline=DEADLINE) as manager:
        await manager.ping()
        await network.pass_through()
        await settled(manager, facts)


@pytest.mark.parametrize(("pooled", "most"), [(False, 10), (True, 18)])
async def test_opening_costs_few_round_trips(pooled: bool, most: int, database: str, network: FaultProxy) -> None:
    """Each is the time to another region and back: they are not to become more unnoticed."""
    async with opened(network.address(database), options=StoreOptions(pooled=pooled)):
        assert network.counters.accepted == 1
        assert network.counters.turns <= most


async def test_a_silent_server_is_told_of_in_time(database: str, network: FaultProxy, facts: Truth) -> None:
    """Whoever opens a store waits for the deadline, and for the end of what hangs; no connection is left."""
    network.hold()
    watch = Stopwatch()
    with pytest.raises(StoreUnavailable, match=r"did not answer|does not answer"):
        async with opened(network.address(database), deadline=DEADLINE):
            pass
    assert watch.seconds < 2 * DEADLINE + SLACK
    await network.pass_through()

    async def gone() -> bool:
        return await facts.backends() == 0

    await eventually(gone, what="no connection of ours is left")
