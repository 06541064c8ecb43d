"""Counting under concurrency: each acknowledged call counts once, whoever calls and gives up."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from datetime import timedelta

from holdfast.sessions.manager import SessionManager
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import Answer, SuiteBase, present


class CountSuite(SuiteBase):
    """Counts are exact, activity and expiry never go back, a cancelled caller breaks nothing."""

    async def test_parallel_validates_are_all_counted(self, clock: MovableClock) -> None:
        """Every acknowledged validate of two servers is counted once; activity never goes back (I-9)."""
        async with self.two_servers(clock) as servers:
            here, there = servers
            hot, _ = await here.create_session()
            cold = [(await here.create_session()).token for _ in range(10)]
            seen: list[int] = []

            async def caller(number: int) -> None:
                server, chance = servers[number % 2], random.Random(number)  # noqa: S311 - guards nothing
                for _ in range(10):
                    before = present(await server.get_session(hot))
                    session = present(await server.validate_session(hot))
                    assert session.request_count > before.request_count
                    assert session.last_activity >= before.last_activity
                    seen.append(session.request_count)
                    assert await server.validate_session(chance.choice(cold))

            await asyncio.gather(*(caller(number) for number in range(20)))
            assert present(await there.get_session(hot)).request_count == max(seen) == 200
            counts = [present(await here.get_session(token)).request_count for token in cold]
            assert sum(counts) == 200

    async def test_activities_by_id_and_by_token_add_up(self, clock: MovableClock) -> None:
        """A socket counts by id, requests by token: each is counted once, through rotations too (promise 5)."""
        async with self.two_servers(clock) as (here, there):
            new = await here.create_session()
            current = new.token
            for _ in range(5):
                answers = await asyncio.gather(
                    *(here.validate_by_id(new.id) for _ in range(10)),
                    *(there.validate_by_id(new.id) for _ in range(10)),
                    *(there.validate_session(current) for _ in range(10)),
                )
                assert all(answers)
                current = present(await here.rotate_session(current)).token
            assert present(await here.get_by_id(new.id)).request_count == 150
            await there.end_session(new.id)
            assert await here.validate_by_id(new.id) is None
            assert await here.validate_by_id("no id") is None

    async def test_rotation_loses_no_count(self, clock: MovableClock) -> None:
        """A session that is rotated while it is validated counts exactly the validates that succeeded."""
        async with self.two_servers(clock) as (here, there):
            token, counted, done = (await here.create_session()).token, 0, False

            async def validate(server: SessionManager) -> None:
                nonlocal counted
                while not done:
                    # Not `+=` around the await: that would read the sum before and write it after.
                    opened = await server.validate_session(token) is not None
                    counted += opened
                    await asyncio.sleep(0)

            async def rotate() -> None:
                nonlocal token, done
                for _ in range(20):
                    token = present(await there.rotate_session(token)).token
                    await asyncio.sleep(0)
                done = True

            await asyncio.gather(validate(here), validate(there), validate(here), rotate())
            assert present(await here.get_session(token)).request_count == counted

    async def test_parallel_extensions_keep_the_furthest(self, clock: MovableClock) -> None:
        """Whatever the order, the expiry ends up with the longest extension, and never moves back."""
        async with self.two_servers(clock) as servers:
            for round_number in range(self.rounds):
                await self._extend_against_extend(round_number, *servers)

    async def _extend_against_extend(self, round_number: int, here: SessionManager, there: SessionManager) -> None:
        new = await here.create_session()
        answers = await asyncio.gather(
            *self.shuffled(
                round_number,
                [
                    lambda: here.extend_session(new.token, 25),
                    lambda: there.extend_session(new.token, 100),
                    lambda: here.extend_by_id(new.id, 50),
                    lambda: there.extend_session(new.token, 1),
                ],
            )
        )
        expires_at = present(await here.get_session(new.token)).expires_at
        assert expires_at == max(map(present, answers))
        assert expires_at - new.expires_at > timedelta(hours=75)

    async def test_the_count_agrees_with_the_list(self, clock: MovableClock) -> None:
        """While sessions come and go no count is impossible; in the quiet after, it is exact (I-10)."""
        async with self.two_servers(clock) as (here, there):
            stay = [await here.create_session() for _ in range(5)]

            async def come_and_go(server: SessionManager) -> None:
                for _ in range(5):
                    token, _ = await server.create_session()
                    await server.delete_session(token)

            async def count() -> None:
                for _ in range(10):
                    assert 5 <= await here.get_active_session_count() <= 5 + 4

            await asyncio.gather(*(come_and_go(server) for server in (here, there) * 2), count())
            assert await there.get_active_session_count() == 5
            assert {one.id for one in await here.list_sessions()} == {new.id for new in stay}

    async def test_cancelled_validates_break_nothing(self, clock: MovableClock) -> None:
        """Cancelled at any point: acknowledged <= count <= acknowledged + cancelled (promises 5, 7)."""
        async with self.two_servers(clock) as servers:
            here, _ = servers
            new = await here.create_session()
            acknowledged = cancelled = 0
            for round_number in range(self.rounds):
                calls = [servers[n % 2].validate_session(new.token) for n in range(20)]
                answered, gave_up = await self._cancel_half(round_number, calls)
                acknowledged += len(answered)
                cancelled += gave_up
                assert None not in answered
            assert cancelled > 0
            await self._settle(*servers)
            count = present(await here.get_session(new.token)).request_count
            assert acknowledged <= count <= acknowledged + cancelled

    async def test_cancelled_creates_break_nothing(self, clock: MovableClock) -> None:
        """Cancelled at any point, a create leaves a whole session or none (promises 5, 7)."""
        async with self.two_servers(clock) as servers:
            here, there = servers
            acknowledged = cancelled = 0
            for round_number in range(self.rounds):
                calls = [servers[n % 2].create_session(user_id="u1") for n in range(20)]
                answered, gave_up = await self._cancel_half(round_number, calls)
                acknowledged += len(answered)
                cancelled += gave_up
                for new in answered:
                    assert await there.get_session(new.token)
            await self._settle(*servers)
            count = await there.get_active_session_count()
            assert acknowledged <= count <= acknowledged + cancelled
            assert await here.revoke_user_sessions("u1") == count

    async def test_other_cancelled_calls_break_nothing(self, clock: MovableClock) -> None:
        """Any other cancelled call leaves the store usable and the session whole (promise 7)."""
        async with self.two_servers(clock) as servers:
            here, there = servers
            for round_number in range(self.rounds):
                new = await here.create_session(user_id="u1", metadata={"kept": 1})
                calls: list[Awaitable[object]] = [
                    here.extend_session(new.token, 48),
                    there.update_metadata(new.token, {"changed": 1}),
                    here.rotate_session(new.token),
                    there.list_sessions("u1"),
                    here.get_active_session_count(),
                    there.create_ticket(new.token),
                    here.sweep(),
                    there.why_ended(new.token),
                ]
                await self._cancel_half(round_number, calls)
                session = present(await there.get_by_id(new.id))
                assert session.metadata in ({"kept": 1}, {"kept": 1, "changed": 1})
                await self._cancel_half(round_number, [here.end_session(new.id), there.erase_user("nobody")])
                await here.end_session(new.id)
                assert await there.get_by_id(new.id) is None

    async def _settle(self, *servers: SessionManager) -> None:
        """Wait until abandoned calls are done: they were accepted before these."""
        for server in servers:
            other = await server.create_session(user_id="settling")
            await server.validate_session(other.token)
            await server.delete_session(other.token)

    async def _cancel_half(self, round_number: int, calls: Sequence[Awaitable[Answer]]) -> tuple[list[Answer], int]:
        """Start calls, cancel half of them some turns later: the answers, and how many gave up."""
        chance = random.Random(self.seed * 1_000_003 + round_number)  # noqa: S311 - guards nothing
        tasks = [asyncio.ensure_future(call) for call in calls]
        for task in chance.sample(tasks, len(tasks) // 2):
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait(tasks)
        answered = [task.result() for task in tasks if not task.cancelled()]
        return answered, len(tasks) - len(answered)
