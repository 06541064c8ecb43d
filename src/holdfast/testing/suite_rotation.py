"""Rotation: a session changes its token and stays what it was."""

import asyncio
from datetime import timedelta

import pytest

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.tokens import new_token
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase, known, move_to, present
from holdfast.testing.suite_lifecycle import assert_opens_nothing


class RotationSuite(SuiteBase):
    """One successor, the same session, and a predecessor that is dead or may only validate."""

    async def test_rotation_changes_nothing_but_the_token(self, sessions: SessionManager) -> None:
        """Id, expiry, count, user and metadata stay; the new token opens the session (S-13)."""
        old = await sessions.create_session(user_id="u1", metadata={"a": 1})
        before = await sessions.validate_session(old.token)
        new = present(await sessions.rotate_session(old.token))
        assert (new.id, new.expires_at) == (old.id, old.expires_at)
        assert new.token != old.token
        assert await sessions.get_session(new.token) == before
        assert await sessions.get_active_session_count() == 1

    async def test_the_old_token_is_dead_at_once(self, sessions: SessionManager) -> None:
        """Without a grace the predecessor does nothing any more, and says `replaced` (S-13)."""
        old = await sessions.create_session()
        new = present(await sessions.rotate_session(old.token))
        await assert_opens_nothing(sessions, old.token, why="replaced")
        assert await sessions.why_ended(new.token) is None
        assert present(await sessions.validate_session(new.token)).request_count == 1

    async def test_within_the_grace_the_predecessor_only_validates(self, clock: MovableClock) -> None:
        """It counts as activity of its session, and can do nothing else with it (S-13)."""
        async with self.opened(clock, rotation_grace=30) as sessions:
            old = await sessions.create_session()
            new = present(await sessions.rotate_session(old.token))
            session = present(await sessions.validate_session(old.token))
            assert (session.id, session.request_count) == (new.id, 1)
            assert await sessions.get_session(old.token) is None
            assert await sessions.extend_session(old.token, 48) is None
            assert await sessions.rotate_session(old.token) is None
            assert await sessions.update_metadata(old.token, {"a": 1}) is None
            assert await sessions.create_ticket(old.token) is None
            assert await sessions.delete_session(old.token) is False
            assert await sessions.get_session(new.token) == session
            # It opens something still, so there is no reason why it would not.
            assert await sessions.why_ended(old.token) is None
            await move_to(sessions, clock, session.last_activity, 30)
            await assert_opens_nothing(sessions, old.token, why="replaced")
            assert await sessions.validate_session(new.token)

    async def test_the_grace_covers_the_direct_predecessor_only(self, clock: MovableClock) -> None:
        """After a second rotation the first token is dead, grace or not (S-13)."""
        async with self.opened(clock, rotation_grace=30) as sessions:
            first = await sessions.create_session()
            second = present(await sessions.rotate_session(first.token))
            third = present(await sessions.rotate_session(second.token))
            assert await sessions.validate_session(first.token) is None
            assert await sessions.validate_session(second.token)
            assert await sessions.validate_session(third.token)
            # A store may remember more than the direct predecessor, and need not.
            assert await sessions.why_ended(first.token) in ("replaced", "unknown")

    async def test_the_grace_ends_with_the_session(self, clock: MovableClock) -> None:
        """Deleted, a session does not validate through its predecessor either."""
        async with self.opened(clock, rotation_grace=30) as sessions:
            old = await sessions.create_session()
            new = present(await sessions.rotate_session(old.token))
            assert await sessions.delete_session(new.token)
            assert await sessions.validate_session(old.token) is None
            assert await sessions.why_ended(old.token) == "replaced"
            assert await sessions.why_ended(new.token) == "revoked"

    async def test_parallel_rotations_give_one_successor(self, clock: MovableClock) -> None:
        """Of 50 rotations at once on two servers one succeeds, and one session is live (S-14)."""
        async with self.two_servers(clock) as (here, there):
            for round_number in range(max(1, self.rounds // 10)):
                old = await here.create_session(user_id=f"u{round_number}")
                answers = await asyncio.gather(*((here, there)[n % 2].rotate_session(old.token) for n in range(50)))
                successors = [answer for answer in answers if answer is not None]
                assert len(successors) == 1
                assert await here.validate_session(old.token) is None
                assert present(await there.validate_session(successors[0].token)).id == old.id
                assert len(await here.list_sessions(f"u{round_number}")) == 1

    async def test_a_rotation_may_be_repeated_with_its_successor(self, sessions: SessionManager) -> None:
        """After a lost answer the same attempt finds its own success; another successor does not."""
        old = await sessions.create_session()
        successor = new_token()
        first = present(await sessions.store.rotate(known(old.token), known(successor)))
        again = present(await sessions.store.rotate(known(old.token), known(successor)))
        assert (again.id, again.expires_at) == (first.id, first.expires_at)
        assert await sessions.store.rotate(known(old.token), known(new_token())) is None
        assert await sessions.validate_session(successor)

    async def test_rotating_the_dead_does_nothing(self, sessions: SessionManager, clock: MovableClock) -> None:
        """An ended or expired session gets no successor."""
        deleted, expired = await sessions.create_session(), await sessions.create_session()
        await sessions.delete_session(deleted.token)
        assert await sessions.rotate_session(deleted.token) is None
        clock.advance(timedelta(hours=24))
        assert await sessions.rotate_session(expired.token) is None
        assert await sessions.get_active_session_count() == 0

    async def test_a_replaced_token_that_is_used_is_reported(
        self, clock: MovableClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Once its successor was used, and the grace is over; its session lives on (S-16)."""
        async with self.opened(clock, rotation_grace=10) as sessions:
            old = await sessions.create_session()
            new = present(await sessions.rotate_session(old.token))
            clock.advance(20)
            assert await sessions.validate_session(old.token) is None
            await sessions.replays.finish()
            assert sessions.replays.count == 0
            await sessions.validate_session(new.token)
            assert await sessions.validate_session(old.token) is None
            await sessions.replays.finish()
            assert sessions.replays.count == 1
            assert await sessions.validate_session(new.token)
        (record,) = [each for each in caplog.records if "replaced" in each.getMessage()]
        assert record.__dict__["session_id"] == old.id

    async def test_a_replaced_token_that_is_used_can_end_its_session(self, clock: MovableClock) -> None:
        """By policy: whoever holds the successor has to log in again. Unknown tokens end nothing (S-16)."""
        async with self.opened(clock, on_replay="end") as sessions:
            old = await sessions.create_session()
            new = present(await sessions.rotate_session(old.token))
            clock.advance(1)
            assert await sessions.validate_session(new.token)
            assert await sessions.validate_session(new_token()) is None
            assert await sessions.validate_session(old.token) is None
            await sessions.replays.finish()
            assert await sessions.validate_session(new.token) is None
            assert await sessions.why_ended(new.token) == "revoked"

    async def test_a_chain_of_rotations(self, sessions: SessionManager) -> None:
        """However often it is rotated, only the latest token opens the session."""
        current = await sessions.create_session()
        past = []
        for _ in range(10):
            past.append(current.token)
            current = present(await sessions.rotate_session(current.token))
        for token in past:
            assert await sessions.validate_session(token) is None
        assert present(await sessions.validate_session(current.token)).request_count == 1
