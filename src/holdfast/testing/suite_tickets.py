"""One-time tickets for WebSocket handshakes."""

import asyncio
from functools import partial
from typing import Any

import pytest

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.tokens import new_ticket
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import SuiteBase, move_to, present

ORIGIN = "https://app.example"
ORIGINS = [
    (ORIGIN, None),
    (None, ORIGIN),
    (ORIGIN, ORIGIN + "/"),
    (ORIGIN, ORIGIN.upper()),
    (ORIGIN, "https://evil.example"),
    (ORIGIN, ""),
    (ORIGIN, ORIGIN + "\0"),
    (ORIGIN, ORIGIN + "\ud800"),
    (None, ""),
    (None, "null"),
]
"""What a ticket is bound to, and another origin that is tried with it."""


class TicketSuite(SuiteBase):
    """A ticket opens its session once, from its origin, within 30 seconds."""

    async def test_a_ticket_opens_its_session_once(self, sessions: SessionManager) -> None:
        """The first use answers the session, untouched; the second one nothing."""
        new = await sessions.create_session(user_id="u1", metadata={"a": 1})
        ticket, _ = present(await sessions.create_ticket(new.token, ORIGIN))
        assert await sessions.redeem_ticket(ticket, ORIGIN) == await sessions.get_session(new.token)
        assert await sessions.redeem_ticket(ticket, ORIGIN) is None

    async def test_a_ticket_expires_after_30_seconds(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Its `expires_at` is 30 seconds from the store's now, and at that time it is dead."""
        token, _ = await sessions.create_session()
        before = await sessions.ping()
        ticket, expires_at = present(await sessions.create_ticket(token))
        assert 30 <= (expires_at - before).total_seconds() <= 30 + (await sessions.ping() - before).total_seconds()
        await move_to(sessions, clock, expires_at)
        assert await sessions.redeem_ticket(ticket) is None

    async def test_a_ticket_lives_until_then(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Shortly before its `expires_at` a ticket is good."""
        token, _ = await sessions.create_session()
        ticket, expires_at = present(await sessions.create_ticket(token))
        await move_to(sessions, clock, expires_at, -10)
        assert await sessions.redeem_ticket(ticket)

    async def test_a_ticket_is_bound_to_its_origin(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """Tried with another origin, or without one, it opens nothing, and is used up."""
        for bound, carried in ORIGINS:
            with subtests.test(f"{bound!r} and {carried!r}"):
                token, _ = await sessions.create_session()
                ticket, _ = present(await sessions.create_ticket(token, bound))
                assert await sessions.redeem_ticket(ticket, carried) is None
                assert await sessions.redeem_ticket(ticket, bound) is None

    async def test_of_two_uses_at_once_one_wins(self, clock: MovableClock) -> None:
        """A ticket that is used on two servers at the same time opens the session for one of them."""
        async with self.two_servers(clock) as (here, there):
            for round_number in range(self.rounds):
                token, _ = await here.create_session()
                ticket, _ = present(await there.create_ticket(token))
                starts = [partial(server.redeem_ticket, ticket) for server in (here, there, here, there)]
                answers = await asyncio.gather(*self.shuffled(round_number, starts))
                assert sum(answer is not None for answer in answers) == 1

    async def test_a_session_may_have_many_tickets(self, sessions: SessionManager) -> None:
        """Each of them is good once, whatever became of the others."""
        new = await sessions.create_session()
        tickets = [present(await sessions.create_ticket(new.token))[0] for _ in range(5)]
        assert len(set(tickets)) == 5
        for ticket in tickets:
            assert present(await sessions.redeem_ticket(ticket)).id == new.id

    async def test_a_ticket_outlives_rotation_and_not_its_session(self, sessions: SessionManager) -> None:
        """It belongs to the session, not to its token: rotated is fine, ended is not."""
        new = await sessions.create_session()
        first, _ = present(await sessions.create_ticket(new.token))
        second, _ = present(await sessions.create_ticket(new.token))
        rotated = present(await sessions.rotate_session(new.token))
        assert present(await sessions.redeem_ticket(first)).id == new.id
        await sessions.delete_session(rotated.token)
        assert await sessions.redeem_ticket(second) is None
        assert await sessions.create_ticket(rotated.token) is None

    async def test_tickets_and_tokens_are_no_substitutes(self, sessions: SessionManager) -> None:
        """A ticket is no token, a token or an id no ticket, and an unknown ticket opens nothing (S-03)."""
        new = await sessions.create_session()
        ticket, _ = present(await sessions.create_ticket(new.token))
        assert await sessions.validate_session(ticket) is None
        assert await sessions.create_ticket(ticket) is None
        for text in (new.token, new.id, new_ticket(), ticket[:-1], ticket.replace("hft_", "hfs_")):
            assert await sessions.redeem_ticket(text) is None
        assert await sessions.redeem_ticket(ticket)

    async def test_the_sweep_removes_old_tickets_only(self, sessions: SessionManager, clock: MovableClock) -> None:
        """A sweep leaves tickets that are still good."""
        token, _ = await sessions.create_session()
        old, _ = present(await sessions.create_ticket(token))
        clock.advance(31)
        good, _ = present(await sessions.create_ticket(token))
        await sessions.sweep()
        assert await sessions.redeem_ticket(old) is None
        assert await sessions.redeem_ticket(good)

    async def test_bad_origins_are_refused(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """A ticket can be bound to a string of 1 to 512 characters, or to no origin."""
        token, _ = await sessions.create_session()
        wrong: list[Any] = ["", "o" * 513, "\0", "\udc00", 1, b"https://app.example"]
        for number, origin in enumerate(wrong):
            with subtests.test(str(number)), pytest.raises(InvalidArgument):
                await sessions.create_ticket(token, origin)
        longest, _ = present(await sessions.create_ticket(token, "o" * 512))
        assert await sessions.redeem_ticket(longest, "o" * 512)
