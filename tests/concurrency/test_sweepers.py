"""Every server sweeps: all of them at once on one backlog (F-39)."""

import asyncio
from collections import Counter
from datetime import timedelta

from holdfast.sessions.session import End
from holdfast.testing.clock import MovableClock
from tests.concurrency.place import Place, at_most

SERVERS = 10
BACKLOG = 4_000
SECONDS = 60.0
"""Generous: on a quiet machine it takes a second or two."""


async def test_ten_sweepers_share_a_backlog(shared_place: Place) -> None:
    """Each expired session is marked by one of them, each end is told, each row is deleted once; nobody deadlocks."""
    clock = MovableClock()
    told: Counter[str] = Counter()

    def hear(end: End) -> None:
        assert end.reason == "expired"
        told[end.id] += 1

    settings = {"clock": clock, "on_end": hear, "retention": 0}
    async with shared_place.servers(SERVERS, **settings) as servers, asyncio.timeout(SECONDS):
        made: set[str] = set()

        async def create() -> None:
            made.add((await servers[0].create_session(user_id="u1")).id)

        await at_most(200, [create] * BACKLOG)
        clock.advance(timedelta(hours=25))
        living = await servers[0].create_session()

        swept = await asyncio.gather(*(server.sweep() for server in servers))
        assert sum(each.marked for each in swept) == BACKLOG
        assert sum(each.marked > 0 for each in swept) > 1, "one sweeper did everything alone"
        assert set(told) == made

        # What the first pass skipped because another one held it.
        swept += await asyncio.gather(*(server.sweep() for server in servers))
        assert sum(each.marked for each in swept) == BACKLOG
        assert sum(each.deleted for each in swept) == BACKLOG
        assert await servers[3].why_ended(living.token) is None
        assert await servers[4].get_active_session_count() == 1
    assert shared_place.lost_locks() == []


async def test_sweepers_and_cleaners_do_not_disturb_the_living(shared_place: Place) -> None:
    """Sweeps and clean-ups beside validates: each validate of a live session is answered and counted."""
    clock = MovableClock()
    async with shared_place.servers(4, clock=clock, retention=0) as servers, asyncio.timeout(SECONDS):
        await at_most(100, [lambda: servers[0].create_session(user_id="old")] * 600)
        clock.advance(timedelta(hours=25))
        living = [await servers[1].create_session(user_id="new") for _ in range(20)]
        done = asyncio.Event()

        async def validate(number: int) -> int:
            count = 0
            while not done.is_set() or count < 20:
                session = await servers[number % 2].validate_session(living[number].token)
                assert session is not None
                count += 1
            return count

        async def clean() -> int:
            swept = asyncio.gather(servers[2].sweep(), servers[3].cleanup_expired_sessions(), servers[0].sweep())
            first, cleaned, second = await swept
            done.set()
            return first.deleted + cleaned + second.deleted

        removed, *counts = await asyncio.gather(clean(), *(validate(number) for number in range(len(living))))
        # A row that one of them held was skipped by the others.
        removed += await servers[3].cleanup_expired_sessions()
        assert removed == 600
        for new, count in zip(living, counts, strict=True):
            session = await servers[2].get_session(new.token)
            assert session is not None
            assert session.request_count == count
    assert shared_place.lost_locks() == []
