"""The end of a session: why it is over, and who hears of it."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.ids import new_id
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import END_REASONS, End
from holdfast.sessions.tokens import new_token
from holdfast.sessions.watches import POLL_SECONDS
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase, known, move_to, present, soon


class EndsSuite(SuiteBase):
    """Reasons are final, and a watch tells its session's end."""

    async def test_each_reason_is_kept(
        self, sessions: SessionManager, clock: MovableClock, subtests: pytest.Subtests
    ) -> None:
        """An end has the reason it was given for as long as the retention, and is unknown after it."""
        for reason in END_REASONS:
            with subtests.test(reason):
                new = await sessions.create_session(user_id="u1")
                assert await sessions.why_ended(new.token) is None
                before = await sessions.ping()
                assert await sessions.end_session(new.id, reason)
                end = present(await sessions.store.end_of(UUID(new.id)))
                assert end == End(new.id, "u1", reason, end.ended_at)
                assert before <= end.ended_at <= await sessions.ping()
                clock.advance(3500)
                await sessions.sweep()
                assert await sessions.why_ended(new.token) == reason
                assert await sessions.store.end_of(UUID(new.id)) == end
                clock.advance(200)
                await sessions.sweep()
                assert await sessions.why_ended(new.token) == "unknown"
                assert await sessions.store.end_of(UUID(new.id)) is None

    async def test_other_reasons_are_refused(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """Only the four reasons for an end are one."""
        new = await sessions.create_session()
        wrong: list[Any] = ["replaced", "unknown", "", "REVOKED", None, 1]
        for reason in wrong:
            with subtests.test(repr(reason)):
                with pytest.raises(InvalidArgument):
                    await sessions.end_session(new.id, reason)
                assert await sessions.validate_session(new.token)

    async def test_the_first_reason_stays(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Neither another end, nor expiry, nor a sweep changes why a session ended."""
        new = await sessions.create_session(user_id="u1")
        await sessions.end_session(new.id, "evicted")
        await sessions.delete_session(new.token)
        await sessions.revoke_user_sessions("u1")
        assert await sessions.why_ended(new.token) == "evicted"
        async with self.opened(clock, retention=timedelta(days=10)) as keeping:
            new = await keeping.create_session()
            await keeping.end_session(new.id, "evicted")
            clock.advance(timedelta(days=2))
            await keeping.sweep()
            assert await keeping.why_ended(new.token) == "evicted"

    async def test_a_session_ends_when_it_runs_out(self, clock: MovableClock) -> None:
        """Expired or idle, its end is known before any sweep, and a sweep changes nothing about it."""
        async with self.opened(clock, idle_timeout=600, session_ttl_hours=1) as sessions:
            idle = await sessions.create_session(user_id="u1")
            busy = await sessions.create_session(user_id="u2")
            for _ in range(7):
                clock.advance(500)
                await sessions.validate_session(busy.token)
            await move_to(sessions, clock, busy.expires_at)
            for sweep in (False, True):
                if sweep:
                    await sessions.sweep()
                for new, user, reason in ((idle, "u1", "idle"), (busy, "u2", "expired")):
                    end = present(await sessions.store.end_of(UUID(new.id)))
                    assert (end.id, end.user_id, end.reason) == (new.id, user, reason)
                    assert end.ended_at <= await sessions.ping()
                    assert await sessions.why_ended(new.token) == reason

    async def test_the_end_of_an_unswept_session_is_when_it_ran_out(
        self, sessions: SessionManager, clock: MovableClock
    ) -> None:
        """Asked later, the store answers the time at which the session expired, not the time of asking."""
        new = await sessions.create_session()
        await move_to(sessions, clock, new.expires_at, 1000)
        assert present(await sessions.store.end_of(UUID(new.id))).ended_at == new.expires_at

    async def test_no_end_without_a_session(self, sessions: SessionManager) -> None:
        """A live session and an unknown id have no end; an unknown token is unknown."""
        new = await sessions.create_session()
        assert await sessions.store.end_of(UUID(new.id)) is None
        assert await sessions.store.end_of(new_id()) is None
        assert await sessions.why_ended(new.token) is None
        assert await sessions.why_ended(new_token()) == "unknown"

    async def test_the_store_answers_each_end(self, sessions: SessionManager) -> None:
        """`end` answers when and why, by digest and by id, and `None` once there is nothing live to end."""
        first = await sessions.create_session(user_id="u1")
        second = await sessions.create_session()
        end = present(await sessions.store.end(known(first.token), "revoked"))
        assert end[:3] == (first.id, "u1", "revoked")
        assert await sessions.store.end(known(first.token), "revoked") is None
        assert present(await sessions.store.end(UUID(second.id), "idle"))[:3] == (second.id, None, "idle")
        assert await sessions.store.end(new_id(), "revoked") is None

    async def test_the_store_answers_the_ends_of_a_user(self, sessions: SessionManager) -> None:
        """`end_user` answers one end for each session that it ended, and no other."""
        made = [await sessions.create_session(user_id="u1") for _ in range(3)]
        await sessions.end_session(made[0].id, "evicted")
        ends = await sessions.store.end_user("u1", UUID(made[1].id), "revoked")
        assert [end[:3] for end in ends] == [(made[2].id, "u1", "revoked")]
        assert await sessions.store.end_user("u1", UUID(made[1].id), "revoked") == []

    # Watching

    async def test_a_watch_hears_of_an_end_at_once(self, sessions: SessionManager) -> None:
        """Deleted, ended by id or revoked with its user: every watch of the session hears the reason."""
        for finish in ("token", "id", "user"):
            new = await sessions.create_session(user_id="u1")
            async with sessions.watch(new.token) as first, sessions.watch(new.token) as second:
                assert present(first.session).id == new.id
                waiting = [asyncio.create_task(watch.wait()) for watch in (first, second)]
                if finish == "token":
                    await sessions.delete_session(new.token)
                elif finish == "id":
                    await sessions.end_session(new.id, "evicted")
                else:
                    await sessions.revoke_user_sessions("u1")
                for end in await soon(asyncio.gather(*waiting)):
                    assert present(end)[:3] == (new.id, "u1", "evicted" if finish == "id" else "revoked")

    async def test_a_watch_hears_of_an_end_before_it_waits(self, sessions: SessionManager) -> None:
        """An end between the opening of the watch and `wait` is not lost."""
        new = await sessions.create_session()
        async with sessions.watch(new.token) as watch:
            await sessions.delete_session(new.token)
            assert present(await soon(watch.wait())).reason == "revoked"
            assert present(await soon(watch.wait())).reason == "revoked"

    async def test_a_watch_hears_of_expiry(self, sessions: SessionManager, clock: MovableClock) -> None:
        """When the session's time is due the watch wakes up by itself, though nobody sweeps."""
        new = await sessions.create_session(user_id="u1")
        async with sessions.watch(new.token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await soon(clock.until_sleeping())
            clock.advance(24 * 3600)
            assert await soon(waiting) == End(new.id, "u1", "expired", new.expires_at)

    async def test_a_watch_hears_of_idleness(self, clock: MovableClock) -> None:
        """It wakes when the idle timeout is over, unless there was activity meanwhile."""
        async with self.opened(clock, idle_timeout=600) as sessions:
            new = await sessions.create_session()
            async with sessions.watch(new.token) as watch:
                waiting = asyncio.create_task(watch.wait())
                for _ in range(3):
                    await soon(clock.until_sleeping())
                    clock.advance(500)
                    await sessions.validate_session(new.token)
                await soon(clock.until_sleeping())
                clock.advance(600)
                assert present(await soon(waiting)).reason == "idle"

    async def test_an_extension_prolongs_a_watch(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Woken at the old expiry, the watch finds the session extended and goes on."""
        new = await sessions.create_session()
        async with sessions.watch(new.token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await soon(clock.until_sleeping())
            extended = present(await sessions.extend_session(new.token, 48))
            clock.advance(24 * 3600)
            await soon(clock.until_sleeping())
            assert not waiting.done()
            clock.advance(24 * 3600)
            end = present(await soon(waiting))
            assert (end.reason, end.ended_at) == ("expired", extended)

    async def test_rotation_does_not_disturb_a_watch(self, sessions: SessionManager) -> None:
        """A watch opened with the old token hears of the end of the session under its new one."""
        new = await sessions.create_session()
        async with sessions.watch(new.token) as watch:
            waiting = asyncio.create_task(watch.wait())
            rotated = present(await sessions.rotate_session(new.token))
            await sessions.delete_session(rotated.token)
            assert present(await soon(waiting)).reason == "revoked"

    async def test_a_watch_hears_of_an_erasure(self, sessions: SessionManager) -> None:
        """The session of an erased user was revoked, as far as a watch is concerned."""
        new = await sessions.create_session(user_id="u1")
        async with sessions.watch(new.token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await sessions.erase_user("u1")
            assert present(await soon(waiting)).reason == "revoked"

    async def test_a_watch_on_nothing_ends_at_once(self, sessions: SessionManager) -> None:
        """A token that opens nothing has no session to watch, whatever the reason."""
        ended, _ = await sessions.create_session()
        await sessions.delete_session(ended)
        for token in ("", "x", new_token(), ended):
            async with sessions.watch(token) as watch:
                assert watch.session is None
                assert await watch.wait() is None

    async def test_a_watch_hears_of_another_servers_end(self, clock: MovableClock) -> None:
        """Within seconds, by a hint or at the next look; time need not pass for the session (promise 6)."""
        async with self.two_servers(clock) as (here, there):
            for finish in ("id", "user"):
                new = await here.create_session(user_id="u1")
                async with here.watch(new.token) as watch:
                    waiting = asyncio.create_task(watch.wait())
                    await soon(clock.until_sleeping())
                    if finish == "id":
                        assert await there.end_session(new.id, "evicted")
                    else:
                        assert await there.revoke_user_sessions("u1") == 1
                    if not self.hints:
                        clock.advance(POLL_SECONDS)
                    end = present(await soon(waiting))
                    assert end.reason == ("evicted" if finish == "id" else "revoked")

    async def test_a_watch_hears_of_another_servers_end_at_the_next_look(self, clock: MovableClock) -> None:
        """Without any hint too, which a store may lose (promise 6)."""
        async with self.two_servers(clock) as (here, there):
            new = await here.create_session()
            async with here.watch(new.token) as watch:
                waiting = asyncio.create_task(watch.wait())
                await soon(clock.until_sleeping())
                assert await there.end_session(new.id, "evicted")
                clock.advance(POLL_SECONDS)
                assert present(await soon(waiting)).reason == "evicted"

    async def test_standing_tells_live_from_ended(self, sessions: SessionManager, clock: MovableClock) -> None:
        """One statement about many: those that live with their time, those that ended with their end."""
        live, revoked, later = [await sessions.create_session(user_id="u1") for _ in range(3)]
        await sessions.extend_session(later.token, 48)
        await sessions.end_session(revoked.id)
        ids = [UUID(new.id) for new in (live, revoked, later)]
        standing = await sessions.store.standing([*ids, new_id()])
        assert dict(standing.live).keys() == {ids[0], ids[2]}
        assert dict(standing.live)[ids[0]] == live.expires_at
        assert [end[:3] for end in standing.ended] == [(revoked.id, "u1", "revoked")]
        clock.advance(24 * 3600)
        standing = await sessions.store.standing(ids)
        assert dict(standing.live).keys() == {ids[2]}
        assert {end.id: end.reason for end in standing.ended} == {live.id: "expired", revoked.id: "revoked"}
        assert standing.now > live.expires_at
        assert (await sessions.store.standing([])).live == []

    async def test_standing_knows_the_idle_timeout(self, clock: MovableClock) -> None:
        """A session runs out when its idle timeout does, if that comes first."""
        async with self.opened(clock, idle_timeout=600) as sessions:
            new = await sessions.create_session()
            session = present(await sessions.validate_session(new.token))
            ((id, due),) = (await sessions.store.standing([UUID(new.id)])).live
            assert (str(id), due) == (new.id, session.last_activity + timedelta(seconds=600))
            clock.advance(600)
            (end,) = (await sessions.store.standing([UUID(new.id)])).ended
            assert (end.reason, end.ended_at) == ("idle", due)
