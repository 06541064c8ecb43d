"""Beginning, validating, prolonging and ending one session."""

import asyncio
from dataclasses import FrozenInstanceError
from datetime import timedelta
from uuid import UUID

import pytest

from holdfast.sessions.errors import InvalidArgument, StoreUnavailable
from holdfast.sessions.ids import new_id
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewRecord
from holdfast.sessions.tokens import new_token
from holdfast.testing.clock import MovableClock
from holdfast.testing.faults import FaultyStore
from holdfast.testing.suite_base import MALFORMED, NOT_STRINGS, SuiteBase, is_utc, known, present

HOUR = timedelta(hours=1)


class LifecycleSuite(SuiteBase):
    """One session from its creation to its end."""

    async def test_a_created_session_validates(self, sessions: SessionManager) -> None:
        """A created session opens with its token, carries its facts, and has counted this one activity."""
        new = await sessions.create_session(user_id="u1", metadata={"lang": "ko"})
        session = present(await sessions.validate_session(new.token))
        assert (session.id, session.user_id, session.metadata) == (new.id, "u1", {"lang": "ko"})
        assert session.request_count == 1
        assert session.expires_at == new.expires_at

    async def test_a_session_may_be_anonymous(self, sessions: SessionManager) -> None:
        """Without a user and metadata a session has no user and an empty object."""
        token, _ = await sessions.create_session()
        session = present(await sessions.get_session(token))
        assert (session.user_id, session.metadata, session.request_count) == (None, {}, 0)

    async def test_the_lifetime_runs_from_the_stores_clock(self, clock: MovableClock) -> None:
        """`created_at` is the store's now, and `expires_at` is exactly the lifetime later."""
        async with self.opened(clock, session_ttl_hours=5) as sessions:
            clock.advance(timedelta(days=400))
            before = await sessions.ping()
            token, expires_at = await sessions.create_session()
            after = await sessions.ping()
            session = present(await sessions.get_session(token))
        assert before <= session.created_at <= after
        assert session.created_at == session.last_activity
        assert session.expires_at == expires_at == session.created_at + 5 * HOUR

    async def test_a_lifetime_may_be_a_fraction_of_an_hour(self, clock: MovableClock) -> None:
        """A lifetime of 90 seconds is 90 seconds."""
        async with self.opened(clock, session_ttl_hours=0.025) as sessions:
            token, _ = await sessions.create_session()
            session = present(await sessions.get_session(token))
        assert session.expires_at - session.created_at == timedelta(seconds=90)

    async def test_every_time_is_aware_and_utc(self, sessions: SessionManager) -> None:
        """No method ever answers a naive time or one of another zone."""
        token, expires_at = await sessions.create_session(user_id="u1")
        session = present(await sessions.validate_session(token))
        ticket = present(await sessions.create_ticket(token))
        times = [expires_at, session.created_at, session.expires_at, session.last_activity, ticket[1]]
        times += [present(await sessions.extend_session(token, 48)), await sessions.ping()]
        times += [one.last_activity for one in await sessions.list_sessions()]
        await sessions.delete_session(token)
        times.append(present(await sessions.store.end_of(UUID(session.id))).ended_at)
        assert all(map(is_utc, times))

    async def test_tokens_and_ids_are_distinct(self, sessions: SessionManager) -> None:
        """Sessions created at once all have their own token and id, and each token opens its own session."""
        made = await asyncio.gather(*(sessions.create_session(user_id=f"u{n}") for n in range(50)))
        assert len({new.token for new in made}) == len({new.id for new in made}) == 50
        found = await asyncio.gather(*(sessions.validate_session(new.token) for new in made))
        expected = [(new.id, f"u{n}") for n, new in enumerate(made)]
        assert [(present(one).id, present(one).user_id) for one in found] == expected

    async def test_create_may_be_repeated(self, sessions: SessionManager) -> None:
        """A second attempt with the same id and digest is the first one's success and changes nothing."""
        token = new_token()
        record = NewRecord(new_id(), known(token), "u1", '{"a":1}')
        first = await sessions.store.create(record)
        await sessions.validate_session(token)
        second = await sessions.store.create(record)
        assert (second.id, second.created_at, second.expires_at) == (
            first.id,
            first.created_at,
            first.expires_at,
        )
        assert await sessions.get_active_session_count() == 1
        assert present(await sessions.get_session(token)).request_count == 1

    async def test_validating_counts_and_moves_the_activity(
        self, sessions: SessionManager, clock: MovableClock
    ) -> None:
        """Each validate counts once, itself included, and sets `last_activity` to the store's now."""
        token, _ = await sessions.create_session()
        for count in (1, 2, 3):
            clock.advance(60)
            before = await sessions.ping()
            session = present(await sessions.validate_session(token))
            assert session.request_count == count
            assert before <= session.last_activity <= await sessions.ping()

    async def test_getting_touches_nothing(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Get, get by id, list, count and why leave count and activity as they are."""
        new = await sessions.create_session(user_id="u1")
        before = await sessions.validate_session(new.token)
        clock.advance(60)
        assert await sessions.get_session(new.token) == before
        assert await sessions.get_by_id(new.id) == before
        assert await sessions.list_sessions("u1") == [before]
        assert await sessions.get_active_session_count() == 1
        assert await sessions.why_ended(new.token) is None
        assert await sessions.get_session(new.token) == before

    async def test_only_the_token_opens(self, sessions: SessionManager) -> None:
        """The id and the digest are no tokens (S-03)."""
        new = await sessions.create_session()
        digest = known(new.token)
        for text in (
            new.id,
            new.id.upper(),
            digest.hex(),
            "hfs_" + digest.hex(),
            new.token[:-1],
            new.token + "0",
        ):
            assert await sessions.validate_session(text) is None
            assert await sessions.get_session(text) is None

    async def test_an_unknown_token_opens_nothing_and_creates_nothing(self, sessions: SessionManager) -> None:
        """A well-formed token that was never issued is refused by every method and leaves no row (S-04)."""
        for _ in range(5):
            await assert_opens_nothing(sessions, new_token(), why="unknown")
        assert await sessions.get_active_session_count() == 0
        assert await sessions.list_sessions() == []

    async def test_malformed_tokens_ask_the_store_nothing(self, clock: MovableClock) -> None:
        """Text that cannot be a token is refused by every method; no store hears of it (S-05, S-06)."""
        store = FaultyStore(await self.new_store())
        async with SessionManager(store, clock=clock, sweep_interval=None) as sessions:
            calls = dict(store.calls)
            for token in MALFORMED:
                await assert_opens_nothing(sessions, token, why="unknown")
                assert await sessions.redeem_ticket(token) is None
                assert await sessions.get_by_id(token) is None
                assert await sessions.extend_by_id(token, 1) is None
                assert await sessions.update_metadata_by_id(token, {}) is None
                assert await sessions.end_session(token) is False
            assert store.calls == calls

    async def test_a_token_that_is_not_a_string_is_the_callers_mistake(
        self, sessions: SessionManager, subtests: pytest.Subtests
    ) -> None:
        """Every method raises `InvalidArgument` for it (S-08)."""
        for token in NOT_STRINGS:
            with subtests.test(type(token).__name__):
                for method in (
                    sessions.validate_session,
                    sessions.get_session,
                    sessions.delete_session,
                    sessions.extend_session,
                    sessions.rotate_session,
                    sessions.why_ended,
                    sessions.create_ticket,
                    sessions.redeem_ticket,
                    sessions.get_by_id,
                    sessions.end_session,
                ):
                    with pytest.raises(InvalidArgument):
                        await method(token)
                with pytest.raises(InvalidArgument):
                    await sessions.update_metadata(token, {})
                with pytest.raises(InvalidArgument):
                    sessions.watch(token)

    async def test_deleting_ends_the_session(self, sessions: SessionManager) -> None:
        """Delete answers whether there was a live session, and from then on the token opens nothing."""
        token, _ = await sessions.create_session(user_id="u1")
        assert await sessions.delete_session(token) is True
        assert await sessions.delete_session(token) is False
        await assert_opens_nothing(sessions, token, why="revoked")
        assert await sessions.get_active_session_count() == 0
        assert await sessions.list_sessions("u1") == []

    async def test_ending_by_id(self, sessions: SessionManager) -> None:
        """A session ends by its public id, too, and only that one."""
        first, second = await sessions.create_session(), await sessions.create_session()
        assert await sessions.end_session(first.id) is True
        assert await sessions.end_session(first.id) is False
        await assert_opens_nothing(sessions, first.token, why="revoked")
        assert await sessions.validate_session(second.token)

    async def test_an_unknown_id_is_an_answer(self, sessions: SessionManager) -> None:
        """An id of no session gives `None` or `False` everywhere."""
        unknown = str(new_id())
        assert await sessions.get_by_id(unknown) is None
        assert await sessions.extend_by_id(unknown, 24) is None
        assert await sessions.update_metadata_by_id(unknown, {"a": 1}) is None
        assert await sessions.end_session(unknown) is False

    async def test_a_session_is_its_own_value(self, sessions: SessionManager) -> None:
        """A `Session` cannot be changed, and its metadata is shared with no store and no other answer."""
        token, _ = await sessions.create_session(metadata={"a": {"b": [1]}})
        first, second = await asyncio.gather(sessions.validate_session(token), sessions.validate_session(token))
        with pytest.raises(FrozenInstanceError):
            first.request_count = 0  # type: ignore[misc, union-attr]  # that is the test
        present(first).metadata["a"]["b"].append(2)
        assert present(second).metadata == {"a": {"b": [1]}}
        assert present(await sessions.get_session(token)).metadata == {"a": {"b": [1]}}

    async def test_a_second_server_sees_everything_at_once(self, clock: MovableClock) -> None:
        """What one server was told is done, another one on the same data sees (promise 1)."""
        async with self.two_servers(clock) as (here, there):
            token, expires_at = await here.create_session(user_id="u1")
            assert present(await there.validate_session(token)).expires_at == expires_at
            assert present(await here.get_session(token)).request_count == 1
            await there.update_metadata(token, {"a": 1})
            assert present(await here.get_session(token)).metadata == {"a": 1}
            later = await here.extend_session(token, 48)
            assert present(await there.get_session(token)).expires_at == later
            await there.delete_session(token)
            assert await here.validate_session(token) is None

    async def test_a_closed_store_opens_again_with_its_data(self, clock: MovableClock) -> None:
        """Closed, it refuses calls; opened again, it has every session as it was."""
        manager = SessionManager(await self.new_store(), clock=clock, sweep_interval=None)
        async with manager:
            token, _ = await manager.create_session(user_id="u1", metadata={"a": 1})
            before = await manager.validate_session(token)
        with pytest.raises(StoreUnavailable):
            await manager.validate_session(token)
        await manager.close()
        async with manager:
            assert await manager.get_session(token) == before


async def assert_opens_nothing(sessions: SessionManager, token: str, *, why: str) -> None:
    """Check that no method does anything with a token, and that `why_ended` says what is expected."""
    assert await sessions.validate_session(token) is None
    assert await sessions.get_session(token) is None
    assert await sessions.extend_session(token) is None
    assert await sessions.rotate_session(token) is None
    assert await sessions.update_metadata(token, {"a": 1}) is None
    assert await sessions.create_ticket(token) is None
    assert await sessions.delete_session(token) is False
    assert await sessions.why_ended(token) == why
