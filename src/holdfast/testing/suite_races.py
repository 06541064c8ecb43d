"""Races over the end of a session: what must hold in whatever order calls of two servers come."""

import asyncio
from typing import NamedTuple

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase


class Servers(NamedTuple):
    """Two servers of one store; the same one twice where a store cannot have two."""

    here: SessionManager
    there: SessionManager


class RaceSuite(SuiteBase):
    """The ended stay ended, and a revocation covers what was there before it."""

    async def test_the_ended_never_come_back(self, clock: MovableClock) -> None:
        """An end races touch, extend, rotate and update; acknowledged, it is final (S-19, I-1)."""
        async with self.two_servers(clock, rotation_grace=30) as servers:
            for round_number in range(self.rounds):
                await self._end_against_everything(round_number, Servers(*servers))
            assert await servers[0].get_active_session_count() == 0
            assert await servers[1].list_sessions() == []

    async def _end_against_everything(self, round_number: int, servers: Servers) -> None:
        here, there = servers
        new = await here.create_session(user_id="u1")
        tokens = [new.token]

        async def rotate(server: SessionManager) -> None:
            successor = await server.rotate_session(new.token)
            if successor is not None:
                tokens.append(successor.token)

        async def end() -> None:
            if round_number % 3 == 0:
                assert await there.revoke_user_sessions("u1") == 1
            else:
                assert await there.end_session(new.id) is True
            # The others are still under way, and `tokens` grows; what begins now comes after the end.
            for token in tuple(tokens):
                await assert_stays_ended(servers, new, token)

        await asyncio.gather(
            *self.shuffled(
                round_number,
                [
                    end,
                    lambda: rotate(here),
                    lambda: rotate(there),
                    lambda: here.validate_session(new.token),
                    lambda: there.validate_session(new.token),
                    lambda: here.extend_session(new.token, 48),
                    lambda: there.extend_by_id(new.id, 72),
                    lambda: here.update_metadata(new.token, {"a": round_number}),
                    lambda: there.update_metadata_by_id(new.id, {"b": round_number}),
                    lambda: here.create_ticket(new.token),
                ],
            )
        )
        for token in tokens:
            await assert_stays_ended(servers, new, token)
        assert await there.why_ended(tokens[-1]) == "revoked"

    async def test_one_end_has_one_winner(self, clock: MovableClock) -> None:
        """Of many ends at once one is told that it ended the session, and its reason stays."""
        async with self.two_servers(clock) as servers:
            for round_number in range(self.rounds):
                await self._end_against_ends(round_number, Servers(*servers))

    async def _end_against_ends(self, round_number: int, servers: Servers) -> None:
        here, there = servers
        new = await here.create_session()
        answers = await asyncio.gather(
            *self.shuffled(
                round_number,
                [
                    lambda: here.delete_session(new.token),
                    lambda: there.delete_session(new.token),
                    lambda: here.end_session(new.id),
                    lambda: there.end_session(new.id, "evicted"),
                ],
            )
        )
        assert sorted(answers) == [False, False, False, True]
        reason = await here.why_ended(new.token)
        assert reason in ("revoked", "evicted")
        assert await there.end_session(new.id, "idle") is False
        assert await there.why_ended(new.token) == reason

    async def test_revoking_covers_what_was_created_before(self, clock: MovableClock) -> None:
        """Creates race a revocation: each survivor's create finished after it began (S-20, I-7)."""
        async with self.two_servers(clock) as servers:
            for round_number in range(self.rounds):
                await self._revoke_against_creates(round_number, Servers(*servers))

    async def _revoke_against_creates(self, round_number: int, servers: Servers) -> None:
        here, there = servers
        user = f"u{round_number}"
        kept = await here.create_session(user_id=user)
        before = [(await here.create_session(user_id=user)).id for _ in range(2)]
        other = await there.create_session(user_id=f"not {user}")
        in_time: list[str] = []
        revoking = asyncio.Event()

        async def create(server: SessionManager) -> None:
            new = await server.create_session(user_id=user)
            if not revoking.is_set():
                in_time.append(new.id)

        async def revoke() -> None:
            revoking.set()
            await there.revoke_user_sessions(user, keep=kept.id)

        await asyncio.gather(
            *self.shuffled(round_number, [revoke, *([lambda: create(here), lambda: create(there)] * 4)])
        )
        survivors = {session.id for session in await here.list_sessions(user)}
        assert kept.id in survivors
        assert survivors.isdisjoint(before)
        assert survivors.isdisjoint(in_time)
        assert await here.validate_session(other.token)
        assert await there.revoke_user_sessions(user) == len(survivors)
        assert await here.list_sessions(user) == []

    async def test_erasing_leaves_nothing_to_write_to(self, clock: MovableClock) -> None:
        """An erasure races other writes to the user's session: afterwards there is no trace of it."""
        async with self.two_servers(clock) as servers:
            for round_number in range(self.rounds):
                await self._erase_against_writes(round_number, Servers(*servers))

    async def _erase_against_writes(self, round_number: int, servers: Servers) -> None:
        here, there = servers
        new = await here.create_session(user_id="u1")
        await asyncio.gather(
            *self.shuffled(
                round_number,
                [
                    lambda: there.erase_user("u1"),
                    lambda: here.validate_session(new.token),
                    lambda: there.update_metadata(new.token, {"a": 1}),
                    lambda: here.extend_session(new.token, 48),
                    lambda: here.end_session(new.id),
                    lambda: here.create_ticket(new.token),
                ],
            )
        )
        await assert_stays_ended(servers, new, new.token)
        assert await here.why_ended(new.token) == "unknown"
        assert await there.erase_user("u1") == 0


async def assert_stays_ended(servers: Servers, new: NewSession, token: str) -> None:
    """Check on both servers that nothing opens or changes a session that was ended."""
    for server in servers:
        assert await server.validate_session(token) is None
        assert await server.get_session(token) is None
        assert await server.extend_session(token, 48) is None
        assert await server.rotate_session(token) is None
        assert await server.get_by_id(new.id) is None
        assert await server.extend_by_id(new.id, 48) is None
        assert await server.update_metadata_by_id(new.id, {"late": 1}) is None
