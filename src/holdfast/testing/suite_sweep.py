"""The sweep, and the end hook that it serves."""

import asyncio
from datetime import timedelta
from uuid import UUID

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import END_REASONS, End, EndReason
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase, known, present

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class SweepSuite(SuiteBase):
    """Expired sessions are marked, told and deleted: not early, not twice, not untold."""

    async def test_a_sweep_counts_what_it_did(self, sessions: SessionManager, clock: MovableClock) -> None:
        """It marks what has expired, deletes it after the retention, and then has nothing to do."""
        for _ in range(3):
            await sessions.create_session()
        clock.advance(DAY - 30 * MINUTE)
        living = await sessions.create_session()
        assert await sessions.sweep() == (0, 0)
        clock.advance(30 * MINUTE)
        assert await sessions.sweep() == (3, 0)
        assert await sessions.sweep() == (0, 0)
        clock.advance(59 * MINUTE)
        assert await sessions.sweep() == (0, 0)
        clock.advance(2 * MINUTE)
        assert await sessions.sweep() == (0, 3)
        assert await sessions.sweep() == (0, 0)
        assert await sessions.validate_session(living.token)

    async def test_the_retention_holds_for_every_end(self, clock: MovableClock) -> None:
        """Whatever the reason, an ended session is kept for the retention and then deleted."""
        async with self.opened(clock, retention=600) as sessions:
            made = [await sessions.create_session() for _ in END_REASONS]
            for new, reason in zip(made, END_REASONS, strict=True):
                await sessions.end_session(new.id, reason)
            clock.advance(580)
            assert await sessions.sweep() == (0, 0)
            assert [await sessions.why_ended(new.token) for new in made] == list(END_REASONS)
            clock.advance(21)
            assert await sessions.sweep() == (0, len(END_REASONS))
            assert {await sessions.why_ended(new.token) for new in made} == {"unknown"}

    async def test_without_a_retention_ends_go_at_the_next_sweep(self, clock: MovableClock) -> None:
        """With a retention of zero the next sweep deletes it, in the same instant even."""
        async with self.opened(clock, retention=0) as sessions:
            new = await sessions.create_session()
            await sessions.delete_session(new.token)
            assert (await sessions.sweep()).deleted == 1
            assert await sessions.why_ended(new.token) == "unknown"

    async def test_cleaning_up_removes_the_expired_now(self, clock: MovableClock) -> None:
        """Expired and idle sessions go at once, counted; revoked and live ones stay."""
        async with self.opened(clock, idle_timeout=7200, retention=DAY) as sessions:
            expired = [await sessions.create_session() for _ in range(3)]
            for _ in range(12):
                clock.advance(timedelta(hours=1.9))
                for new in expired:
                    await sessions.validate_session(new.token)
            idle = await sessions.create_session()
            clock.advance(timedelta(hours=1.5))
            revoked, live = await sessions.create_session(), await sessions.create_session()
            await sessions.delete_session(revoked.token)
            clock.advance(timedelta(hours=0.6))
            assert await sessions.cleanup_expired_sessions() == 4
            assert await sessions.cleanup_expired_sessions() == 0
            for new in (*expired, idle):
                assert await sessions.why_ended(new.token) == "unknown"
            assert await sessions.why_ended(revoked.token) == "revoked"
            assert await sessions.validate_session(live.token)

    async def test_cleaning_up_takes_what_a_sweep_marked(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Sessions that a sweep marked and keeps for the retention are expired, too."""
        await sessions.create_session()
        clock.advance(DAY)
        assert await sessions.sweep() == (1, 0)
        assert await sessions.cleanup_expired_sessions() == 1

    async def test_more_than_a_batch(self, sessions: SessionManager, clock: MovableClock) -> None:
        """A sweep goes on until everything that is due is done."""
        for _ in range(6):
            await asyncio.gather(*(sessions.create_session() for _ in range(100)))
        clock.advance(DAY)
        assert await sessions.sweep() == (600, 0)
        clock.advance(DAY)
        assert await sessions.sweep() == (0, 600)

    async def test_the_store_keeps_its_limits(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Marking, listing the untold and deleting stop at the limit, and at the reasons given."""
        made = [await sessions.create_session(user_id=f"u{n}") for n in range(5)]
        clock.advance(DAY)
        marked = await sessions.store.mark_expired(2)
        assert len(marked) == 2
        marked += await sessions.store.mark_expired(10)
        assert {(end.id, end.user_id) for end in marked} == {(new.id, f"u{n}") for n, new in enumerate(made)}
        assert {end.reason for end in marked} == {"expired"}
        assert all(new.expires_at <= end.ended_at for new in made for end in marked if end.id == new.id)
        assert await sessions.store.mark_expired(10) == []
        assert len(await sessions.store.untold(2, timedelta(0))) == 2
        assert await sessions.store.untold(2, DAY) == []
        none = timedelta(0)
        now: tuple[EndReason, ...] = ("expired", "idle")
        assert await sessions.store.delete_ended(10, none, ("revoked", "evicted")) == 0
        assert await sessions.store.delete_ended(10, none, ()) == 0
        assert await sessions.store.delete_ended(10, DAY, now) == 0
        assert await sessions.store.delete_ended(2, none, now) == 2
        assert await sessions.store.delete_ended(10, none, now) == 3
        assert await sessions.store.delete_ended(10, none, now) == 0

    async def test_two_servers_sweep_side_by_side(self, clock: MovableClock) -> None:
        """Each expired session is marked once and deleted once, by one of them."""
        async with self.two_servers(clock) as (here, there):
            for _ in range(10):
                await asyncio.gather(*(here.create_session() for _ in range(20)))
            clock.advance(DAY)
            swept = list(await asyncio.gather(here.sweep(), there.sweep(), here.sweep(), there.sweep()))
            # Rows that another sweep held were skipped; they are due at the next one.
            swept.append(await here.sweep())
            assert sum(one.marked for one in swept) == 200
            clock.advance(DAY)
            swept = list(await asyncio.gather(here.sweep(), there.sweep()))
            swept.append(await here.sweep())
            assert sum(one.deleted for one in swept) == 200

    # The hook

    async def test_the_hook_hears_every_end_once(self, clock: MovableClock) -> None:
        """Deleted, ended, revoked, erased or idle: without trouble the hook hears of it exactly once."""
        heard: list[End] = []
        async with self.opened(clock, on_end=heard.append, idle_timeout=6 * 3600) as sessions:
            made = [await sessions.create_session(user_id=user) for user in ("u1", "u2", "u3", "u4", "u5")]
            await sessions.delete_session(made[0].token)
            await sessions.end_session(made[1].id, "evicted")
            await sessions.revoke_user_sessions("u3")
            await sessions.erase_user("u4")
            # Nobody sweeps while the session idles out and longer: its end is not news when it is told.
            clock.advance(DAY / 2)
            await sessions.sweep()
            await sessions.sweep()
            await sessions.cleanup_expired_sessions()
        reasons = ["revoked", "evicted", "revoked", "revoked", "idle"]
        expected = [(new.id, f"u{n}", reason) for n, (new, reason) in enumerate(zip(made, reasons, strict=True), 1)]
        assert sorted(end[:3] for end in heard) == sorted(expected)

    async def test_a_failing_hook_gets_the_end_again(self, clock: MovableClock) -> None:
        """An end whose hook failed outlives its retention, until a later sweep has told it."""
        heard: list[str] = []
        works = False

        async def hook(end: End) -> None:
            if not works:
                raise RuntimeError("the application is not ready")
            heard.append(end.id)

        async with self.opened(clock, on_end=hook) as sessions:
            new = await sessions.create_session()
            await sessions.delete_session(new.token)
            clock.advance(2 * 3600)
            assert (await sessions.sweep()).deleted == 0
            assert await sessions.why_ended(new.token) == "revoked"
            works = True
            assert (await sessions.sweep()).deleted == 1
            await sessions.sweep()
        assert heard == [new.id]

    async def test_an_end_survives_a_crash_before_its_hook(self, clock: MovableClock) -> None:
        """A process dies between the end and the hook: another process's sweep tells it (I-11)."""
        heard: list[End] = []
        store = await self.new_store()
        async with SessionManager(store, clock=clock, sweep_interval=None, on_end=lambda end: None) as first:
            new = await first.create_session(user_id="u1")
            # On the store itself: the manager never hears of it, as if it had died in between.
            end = present(await first.store.end(known(new.token), "revoked"))
        clock.advance(2 * 3600)
        async with SessionManager(
            await self.same_store() or store, clock=clock, sweep_interval=None, on_end=heard.append
        ) as second:
            assert (await second.sweep()).deleted == 1
            await second.sweep()
        assert heard == [end]

    async def test_untold_ends_are_kept_while_a_hook_is_expected(self, clock: MovableClock) -> None:
        """A server without a hook leaves ends to one that has one, for a week after that was last seen."""
        store = await self.new_store()
        async with SessionManager(store, clock=clock, sweep_interval=None, on_end=lambda end: None):
            pass
        async with SessionManager(store, clock=clock, sweep_interval=None) as plain:
            new = await plain.create_session()
            await plain.delete_session(new.token)
            clock.advance(6 * DAY)
            assert await plain.sweep() == (0, 0)
            assert await plain.why_ended(new.token) == "revoked"
            await plain.store.expect_hooks()
            clock.advance(6 * DAY)
            assert await plain.sweep() == (0, 0)
            clock.advance(1 * DAY + MINUTE)
            assert await plain.sweep() == (0, 1)

    async def test_without_a_hook_nothing_is_kept_for_one(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Where no process ever had a hook, ends go after their retention, told or not."""
        new = await sessions.create_session()
        await sessions.delete_session(new.token)
        assert [end.id for end in await sessions.store.untold(10, timedelta(0))] == [new.id]
        clock.advance(2 * 3600)
        assert await sessions.sweep() == (0, 1)

    async def test_the_oldest_untold_ends_come_first(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Whatever the order in which the sessions began: so that a page of ends never keeps an older one waiting."""
        made = [await sessions.create_session() for _ in range(4)]
        order = [made[number].id for number in (2, 0, 3, 1)]
        for id in order:
            await sessions.end_session(id)
            clock.advance(MINUTE)
        assert [end.id for end in await sessions.store.untold(3, timedelta(0))] == order[:3]

    async def test_told_ends_are_told(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Noting twice, or noting what is gone, does nothing; young ends are not asked for."""
        first, second = await sessions.create_session(), await sessions.create_session()
        await sessions.delete_session(first.token)
        clock.advance(60)
        await sessions.delete_session(second.token)
        old = await sessions.store.untold(10, timedelta(seconds=30))
        assert [end[:3] for end in old] == [(first.id, None, "revoked")]
        await sessions.store.told([UUID(first.id)])
        await sessions.store.told([UUID(first.id), UUID(int=0)])
        await sessions.store.told([])
        assert [end.id for end in await sessions.store.untold(10, timedelta(0))] == [second.id]
        assert await sessions.why_ended(first.token) == "revoked"
