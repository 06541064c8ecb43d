"""What time does to sessions: expiry, idle timeout, and extensions."""

from datetime import timedelta
from typing import Any

import pytest

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase, move_to, present
from holdfast.testing.suite_lifecycle import HOUR, assert_opens_nothing


class TimeSuite(SuiteBase):
    """Sessions end in time, by the store's clock, whoever sweeps or does not."""

    async def test_a_session_is_dead_at_its_expiry(self, sessions: SessionManager, clock: MovableClock) -> None:
        """A second before `expires_at` it is live, at `expires_at` dead for every method (promise 4)."""
        new = await sessions.create_session(user_id="u1")
        await move_to(sessions, clock, new.expires_at, -1)
        session = await sessions.validate_session(new.token)
        # A machine that was busy for that one second has proved nothing.
        assert session is not None or await sessions.ping() >= new.expires_at
        await move_to(sessions, clock, new.expires_at)
        await assert_dead(sessions, new, why="expired")

    async def test_expiry_needs_no_sweep(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Nobody sweeps, and still the expired session is neither counted nor listed (S-18)."""
        dying = await sessions.create_session(user_id="u1")
        clock.advance(HOUR)
        living = await sessions.create_session(user_id="u1")
        await move_to(sessions, clock, dying.expires_at)
        assert await sessions.get_active_session_count() == 1
        assert [session.id for session in await sessions.list_sessions("u1")] == [living.id]
        assert await sessions.revoke_user_sessions("u1") == 1
        await assert_opens_nothing(sessions, dying.token, why="expired")

    async def test_validating_does_not_prolong(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Activity alone never moves `expires_at` (S-17)."""
        new = await sessions.create_session()
        for _ in range(23):
            clock.advance(HOUR)
            assert present(await sessions.validate_session(new.token)).expires_at == new.expires_at
        clock.advance(HOUR)
        assert await sessions.validate_session(new.token) is None

    async def test_idleness_ends_a_session(self, clock: MovableClock) -> None:
        """An idle timeout after the last activity the session is dead for every method, and says why."""
        async with self.opened(clock, idle_timeout=600) as sessions:
            new = await sessions.create_session(user_id="u1")
            for _ in range(5):
                clock.advance(540)
                session = present(await sessions.validate_session(new.token))
            await move_to(sessions, clock, session.last_activity + timedelta(seconds=600))
            await assert_dead(sessions, new, why="idle")

    async def test_looking_is_no_activity(self, clock: MovableClock) -> None:
        """Neither get nor an extension keeps a session from idling out."""
        async with self.opened(clock, idle_timeout=600) as sessions:
            new = await sessions.create_session()
            clock.advance(540)
            assert await sessions.get_session(new.token)
            assert await sessions.get_by_id(new.id)
            assert await sessions.extend_session(new.token, 48)
            clock.advance(60)
            await assert_dead(sessions, new, why="idle")

    async def test_the_earlier_limit_counts(self, clock: MovableClock) -> None:
        """A session that would idle out after its expiry has expired."""
        async with self.opened(clock, session_ttl_hours=1, idle_timeout=2400) as sessions:
            new = await sessions.create_session()
            clock.advance(2000)
            assert await sessions.validate_session(new.token)
            clock.advance(7200)
            await assert_dead(sessions, new, why="expired")

    async def test_extending_moves_the_expiry(self, sessions: SessionManager, clock: MovableClock) -> None:
        """The result is now + hours, answered and kept, by token and by id."""
        new = await sessions.create_session()
        clock.advance(HOUR)
        for hours, extend in ((25, sessions.extend_session), (30.5, sessions.extend_session)):
            before = await sessions.ping()
            expires_at = present(await extend(new.token, hours))
            assert before + hours * HOUR <= expires_at <= await sessions.ping() + hours * HOUR
            assert present(await sessions.get_session(new.token)).expires_at == expires_at
        assert present(await sessions.extend_by_id(new.id, 40)) > expires_at

    async def test_extending_never_shortens(self, sessions: SessionManager) -> None:
        """An extension that ends before today's expiry answers that one and changes nothing."""
        new = await sessions.create_session()
        assert await sessions.extend_session(new.token, 1) == new.expires_at
        assert await sessions.extend_by_id(new.id, 0.001) == new.expires_at
        assert present(await sessions.get_session(new.token)).expires_at == new.expires_at

    async def test_no_extension_passes_the_cap(self, clock: MovableClock) -> None:
        """`created_at + max_lifetime` is the end, however often and far one extends (S-17)."""
        async with self.opened(clock, max_lifetime=timedelta(days=3)) as sessions:
            new = await sessions.create_session()
            session = present(await sessions.get_session(new.token))
            cap = session.created_at + timedelta(days=3)
            for _ in range(3):
                clock.advance(20 * HOUR)
                expires_at = present(await sessions.extend_session(new.token, 24))
                assert expires_at <= cap
            for hours in (24, 1000, 10**9, 1e300, 10**400):
                assert await sessions.extend_session(new.token, hours) == cap
            await move_to(sessions, clock, cap)
            await assert_dead(sessions, new, why="expired")

    async def test_without_a_cap_extensions_go_on(self, clock: MovableClock) -> None:
        """With `max_lifetime=None` a session lives as long as it is extended."""
        async with self.opened(clock, max_lifetime=None) as sessions:
            new = await sessions.create_session()
            for _ in range(100):
                clock.advance(timedelta(hours=20))
                assert await sessions.extend_session(new.token)
            assert await sessions.validate_session(new.token)
            # Far, but within what both databases and `datetime` can hold.
            assert present(await sessions.extend_session(new.token, 1e300)) > new.expires_at + timedelta(days=36_000)
            assert await sessions.validate_session(new.token)

    async def test_extending_the_dead_does_nothing(self, sessions: SessionManager, clock: MovableClock) -> None:
        """What has expired stays expired, also for an operator with the id."""
        new = await sessions.create_session()
        await move_to(sessions, clock, new.expires_at)
        assert await sessions.extend_session(new.token, 48) is None
        assert await sessions.extend_by_id(new.id, 48) is None
        await assert_dead(sessions, new, why="expired")

    async def test_bad_hours_are_refused(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """Hours that are no positive number raise `InvalidArgument` and change nothing."""
        new = await sessions.create_session()
        wrong: list[Any] = [0, -1, float("nan"), float("inf"), True, "24", None]
        for hours in wrong:
            with subtests.test(repr(hours)):
                with pytest.raises(InvalidArgument):
                    await sessions.extend_session(new.token, hours)
                with pytest.raises(InvalidArgument):
                    await sessions.extend_by_id(new.id, hours)
                assert present(await sessions.get_session(new.token)).expires_at == new.expires_at

    async def test_a_session_lives_by_its_own_expiry(self, clock: MovableClock) -> None:
        """A shorter lifetime in a later policy leaves the expiry of older sessions alone."""
        store = await self.new_store()
        async with SessionManager(store, clock=clock, sweep_interval=None) as before:
            old = await before.create_session()
        async with SessionManager(store, clock=clock, sweep_interval=None, session_ttl_hours=1) as after:
            clock.advance(2 * HOUR)
            assert present(await after.validate_session(old.token)).expires_at == old.expires_at


async def assert_dead(sessions: SessionManager, new: NewSession, *, why: str) -> None:
    """Check that a session is over for token and id, and that it is neither counted nor listed."""
    await assert_opens_nothing(sessions, new.token, why=why)
    assert await sessions.get_by_id(new.id) is None
    assert await sessions.extend_by_id(new.id, 24) is None
    assert await sessions.update_metadata_by_id(new.id, {"a": 1}) is None
    assert await sessions.end_session(new.id) is False
    assert new.id not in [session.id for session in await sessions.list_sessions()]
    assert await sessions.why_ended(new.token) == why
