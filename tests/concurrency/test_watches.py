"""Two processes on one store: each hears of the ends that the other one makes (promise 6)."""

import asyncio

from tests.concurrency.peer import peer
from tests.concurrency.place import Place
from tests.support.stopwatch import Stopwatch

BOUND_SECONDS = 1.0


async def test_ends_of_another_process_are_heard_within_a_second(process_place: Place) -> None:
    """One by one, by id and with their user, each within a second of the other process's acknowledgement (S-44)."""
    async with process_place.manager() as here, peer(process_place) as there:
        made = [await here.create_session(f"u{number}") for number in range(20)]
        first = await here.create_session()
        async with here.watch(first.token) as watch:
            await there.ask("end_session", first.id)
            assert await asyncio.wait_for(watch.wait(), 10) is not None
        longest = 0.0
        for number, new in enumerate(made):
            async with here.watch(new.token) as watch:
                waiting = asyncio.create_task(watch.wait())
                if number % 2:
                    assert await there.ask("end_session", new.id, "evicted") is True
                else:
                    assert await there.ask("revoke_user_sessions", f"u{number}") == 1
                acknowledged = Stopwatch()
                end = await asyncio.wait_for(waiting, 10)
                longest = max(longest, acknowledged.seconds)
                assert end is not None
                assert end.reason == ("evicted" if number % 2 else "revoked")
        assert longest < BOUND_SECONDS


async def test_an_eviction_by_another_process_is_heard(process_place: Place) -> None:
    """The cap is one for all processes, and the evicted session's watch is wherever it is."""
    async with process_place.manager(max_sessions_per_user=1, at_cap="evict") as here, peer(process_place) as there:
        old = await there.ask("create_session", "u1")
        async with here.watch(old["token"]) as watch:
            await here.create_session("u1")
            end = await asyncio.wait_for(watch.wait(), 10)
            assert end is not None
            assert end.reason == "evicted"
        assert await there.ask("why_ended", old["token"]) == "evicted"
