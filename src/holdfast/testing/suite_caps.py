"""The cap of sessions per user: never exceeded, whatever races."""

import asyncio
from datetime import timedelta

import pytest

from holdfast.sessions.errors import TooManySessions
from holdfast.sessions.ids import new_id
from holdfast.sessions.session import End, NewRecord, Record
from holdfast.sessions.tokens import digest_of_new, new_token
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase, present, soon


class CapsSuite(SuiteBase):
    """A user at the cap gets no further session, or loses the oldest."""

    async def test_a_create_beyond_the_cap_is_refused(self, clock: MovableClock) -> None:
        """It changes nothing; an end or an expiry makes room; others and nobody are not counted (S-23)."""
        async with self.opened(clock, max_sessions_per_user=2) as sessions:
            made = [await sessions.create_session("u1") for _ in range(2)]
            with pytest.raises(TooManySessions):
                await sessions.create_session("u1")
            assert await sessions.get_active_session_count() == 2
            for _ in range(3):
                await sessions.create_session()
            await sessions.create_session("u2")
            await sessions.end_session(made[0].id)
            await sessions.create_session("u1")
            with pytest.raises(TooManySessions):
                await sessions.create_session("u1")
            clock.advance(timedelta(hours=24))
            await sessions.create_session("u1", {"lang": "ko"})
            (last,) = await sessions.list_sessions("u1")
            assert last.metadata == {"lang": "ko"}
            assert last.created_at == last.last_activity
            assert last.expires_at - last.created_at == timedelta(hours=24)

    async def test_the_oldest_is_evicted(self, clock: MovableClock) -> None:
        """The new session lives, the oldest ends as `evicted`, and its watch hears of it at once (S-23)."""
        async with self.opened(clock, max_sessions_per_user=2, at_cap="evict") as sessions:
            first = await sessions.create_session("u1")
            clock.advance(1)
            second = await sessions.create_session("u1")
            # Activity does not save it: the oldest is the one created first.
            await sessions.validate_session(first.token)
            async with sessions.watch(first.token) as watch:
                third = await sessions.create_session("u1")
                assert present(await soon(watch.wait())).reason == "evicted"
            assert await sessions.why_ended(first.token) == "evicted"
            assert {each.id for each in await sessions.list_sessions("u1")} == {second.id, third.id}

    async def test_a_lowered_cap_evicts_down_to_it(self, clock: MovableClock) -> None:
        """A user from before the cap keeps the youngest, with the new one as many as the cap allows (S-23)."""
        async with self.opened(clock, max_sessions_per_user=3, at_cap="evict") as sessions:
            store, made = sessions.store, list[Record]()
            for _ in range(6):
                made.append(await store.create(NewRecord(new_id(), digest_of_new(new_token()), "u1", "{}")))
                clock.advance(1)
            new = await sessions.create_session("u1")
            live = {each.id for each in await sessions.list_sessions("u1")}
            assert live == {str(made[-2].id), str(made[-1].id), new.id}

    async def test_repeating_a_capped_create_is_its_success(self, clock: MovableClock) -> None:
        """The same record again is the same session, and evicts nobody else."""
        async with self.opened(clock, max_sessions_per_user=1, at_cap="evict") as sessions:
            old = await sessions.create_session("u1")
            record = NewRecord(new_id(), digest_of_new(new_token()), "u1", "{}")
            created = await sessions.store.create_capped(record)
            assert [end[:3] for end in created.evicted] == [(old.id, "u1", "evicted")]
            again = await sessions.store.create_capped(record)
            assert again.record == created.record
            assert await sessions.get_active_session_count() == 1

    @pytest.mark.parametrize("at_cap", ["refuse", "evict"])
    async def test_racing_creates_never_exceed_the_cap(self, clock: MovableClock, at_cap: str) -> None:
        """Many creates on two servers, and counts in between: never more than the cap at any read (S-23, I-5)."""
        cap = 5
        async with self.two_servers(clock, max_sessions_per_user=cap, at_cap=at_cap) as servers:
            seen: list[int] = []

            async def create(number: int) -> bool:
                try:
                    await servers[number % 2].create_session("u1")
                except TooManySessions:
                    return False
                seen.append(await servers[(number + 1) % 2].get_active_session_count())
                return True

            for _ in range(max(1, self.rounds // 10)):
                outcomes = await asyncio.gather(*(create(number) for number in range(20)))
                assert max(seen) <= cap
                live = await servers[0].list_sessions("u1")
                assert len(live) == cap
                assert at_cap == "evict" or sum(outcomes) == cap
                for session in live:
                    await servers[0].end_session(session.id)

    async def test_the_hook_hears_of_the_evicted(self, clock: MovableClock) -> None:
        """As of any other end."""
        heard: list[End] = []
        async with self.opened(clock, max_sessions_per_user=1, at_cap="evict", on_end=heard.append) as sessions:
            old = await sessions.create_session("u1")
            await sessions.create_session("u1")
            await sessions.ends.finish()
            assert [end[:3] for end in heard] == [(old.id, "u1", "evicted")]
