"""What a seed decides: the faults and when they come, and what clients draw; and that there is an end to all of it."""

import inspect
from itertools import islice, pairwise

from tests.chaos.clients import steps
from tests.chaos.limits import UNKNOWN_TAIL
from tests.chaos.nemesis import KINDS, LONGEST, NETWORK, PROCESSES, Nemesis, schedule
from tests.chaos.run import SERVERS
from tests.chaos.test_chaos import LONG_SECONDS, SHORT


def test_a_seed_decides_the_faults() -> None:
    """The same seed gives the same schedule, another seed another one, and a longer run begins like a shorter one."""
    first = schedule(7, 60.0, SERVERS)
    assert schedule(7, 60.0, SERVERS) == first
    assert schedule(8, 60.0, SERVERS) != first
    # The shorter run leaves out what would not be over in time.
    assert [fault for fault in schedule(7, 120.0, SERVERS) if fault.at + fault.seconds <= 60.0] == first


def test_every_fault_comes_in_a_long_run() -> None:
    """Whatever the seed; and the short run has faults of both tracks."""
    for seed in range(20):
        assert {fault.kind for fault in schedule(seed, LONG_SECONDS, SERVERS)} == set(KINDS)
    short = {fault.kind for fault in schedule(SHORT.seed, SHORT.seconds, SERVERS)}
    assert short & set(PROCESSES)
    assert short & set(NETWORK)


def test_faults_are_bounded() -> None:
    """All are over when the run is, follow each other within their track, and no silence outlasts what is allowed."""
    for seed in range(20):
        faults = schedule(seed, LONG_SECONDS, SERVERS)
        assert len(faults) < LONG_SECONDS
        for track in (PROCESSES, NETWORK):
            mine = [fault for fault in faults if fault.kind in track]
            assert all(before.at + before.seconds < after.at for before, after in pairwise(mine))
            assert mine[-1].at + mine[-1].seconds <= LONG_SECONDS
        assert all(fault.seconds <= LONGEST for fault in faults if fault.kind in NETWORK)
    assert LONGEST + 5.0 < UNKNOWN_TAIL


def test_every_fault_has_a_hand() -> None:
    """No kind is in the schedule that nobody can make."""
    source = inspect.getsource(Nemesis.__init__)
    assert [kind for kind in KINDS if f'"{kind}"' not in source] == []


def test_a_seed_decides_what_clients_draw() -> None:
    """Step by step, whatever the steps before led to."""
    first = list(islice(steps(7, 3, 0.1), 200))
    assert list(islice(steps(7, 3, 0.1), 200)) == first
    assert list(islice(steps(7, 4, 0.1), 200)) != first
    assert all(step.pause <= 1.0 for step in first)
