"""Many sessions: listing, counting, and everything that goes by the user."""

import asyncio
from typing import Any

import pytest

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.ids import new_id
from holdfast.sessions.manager import SessionManager
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import INJECTIONS, SuiteBase, present
from holdfast.testing.suite_lifecycle import assert_opens_nothing

LOOKALIKES = [
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "cafe\N{COMBINING ACUTE ACCENT}",
    "cafe",
    "CAFE",
    "Cafe",
    "cafe ",
    " cafe",
    "\N{LATIN SMALL LIGATURE FI}",
    "fi",
    "stra\N{LATIN SMALL LETTER SHARP S}e",
    "strasse",
    "\N{ANGSTROM SIGN}",
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}",
    "i",
    "\N{LATIN SMALL LETTER DOTLESS I}",
    "\N{CYRILLIC SMALL LETTER ES}afe",
    "ca\N{ZERO WIDTH JOINER}fe",
    "1",
    "01",
    "1.0",
    "1e0",
]
"""User ids that some comparison or other takes for one another."""

REFUSED_USERS: list[Any] = [
    "", "u" * 256, "NUL \0", "\ud800", "line\nbreak", "\x1b[31m", "\x7f", "\x9b", 1, True, b"u1", ["u1"], 1.5,
]  # fmt: skip
"""User ids that no store is asked about."""


class UsersSuite(SuiteBase):
    """Lists are whole and in order, counts exact, and one user's affairs are not another's."""

    async def test_user_ids_are_compared_exactly(self, sessions: SessionManager) -> None:
        """Ids that Unicode, SQL or a number parser would call equal are different users (S-54)."""
        made = {user: await sessions.create_session(user_id=user) for user in LOOKALIKES}
        for user, new in made.items():
            assert [(one.id, one.user_id) for one in await sessions.list_sessions(user)] == [(new.id, user)]
        for gone, user in enumerate(LOOKALIKES, 1):
            assert await sessions.revoke_user_sessions(user) == 1
            assert await sessions.get_active_session_count() == len(LOOKALIKES) - gone
        assert [await sessions.erase_user(user) for user in LOOKALIKES] == [1] * len(LOOKALIKES)

    async def test_injections_are_only_user_ids(self, sessions: SessionManager) -> None:
        """Text that means something to a database names one user like any other (S-56)."""
        for text in INJECTIONS:
            await sessions.create_session(user_id=text)
        for text in INJECTIONS:
            assert [one.user_id for one in await sessions.list_sessions(text)] == [text]
        for left, text in enumerate(INJECTIONS[::-1]):
            assert await sessions.get_active_session_count() == len(INJECTIONS) - left
            assert await sessions.revoke_user_sessions(text) == 1

    async def test_user_ids_at_the_limit(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """From 1 to 255 characters, however many bytes they take (S-54)."""
        for user_id in ("u", "u" * 255, "é" * 255, "\N{GRINNING FACE}" * 255):
            with subtests.test(f"{len(user_id)} characters, {len(user_id.encode())} bytes"):
                new = await sessions.create_session(user_id=user_id)
                assert present(await sessions.validate_session(new.token)).user_id == user_id
                assert len(await sessions.list_sessions(user_id)) == 1

    async def test_bad_user_ids_are_refused(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """Too short, too long, unholdable or no string: refused everywhere (S-53, S-54)."""
        for number, user_id in enumerate(REFUSED_USERS):
            with subtests.test(str(number)):
                for call in (
                    sessions.create_session,
                    sessions.list_sessions,
                    sessions.revoke_user_sessions,
                    sessions.erase_user,
                ):
                    with pytest.raises(InvalidArgument):
                        await call(user_id)
                assert await sessions.get_active_session_count() == 0

    async def test_pages_follow_one_another(self, sessions: SessionManager) -> None:
        """Page after page gives every live session once, in order of id, of one user or of all."""
        made = await asyncio.gather(*(sessions.create_session(user_id=f"u{n % 3}") for n in range(31)))
        dead = made[::5]
        for new in dead:
            await sessions.delete_session(new.token)
        alive = sorted({new.id for new in made} - {new.id for new in dead})
        for limit in (1, 4, 24, 25, 1000):
            assert await read_pages(sessions, None, limit) == alive
        pages = [await read_pages(sessions, f"u{n}", 3) for n in range(3)]
        assert sorted(id for page in pages for id in page) == alive
        assert all(page == sorted(page) for page in pages)
        assert await sessions.list_sessions("nobody") == []

    async def test_a_page_may_begin_anywhere(self, sessions: SessionManager) -> None:
        """`after` need not be live, nor an id that ever was: it is a place in the order."""
        made = sorted([await sessions.create_session() for _ in range(3)], key=lambda new: new.id)
        await sessions.delete_session(made[0].token)
        rest = [new.id for new in made[1:]]
        for after in (made[0].id, made[0].id.upper(), "00000000-0000-0000-0000-000000000000"):
            assert [one.id for one in await sessions.list_sessions(after=after)] == rest
        assert await sessions.list_sessions(after=made[2].id) == []
        assert await sessions.list_sessions(after="ffffffff-ffff-ffff-ffff-ffffffffffff") == []

    async def test_bad_limits_are_refused(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """A limit is a whole number from 1 to 1000."""
        wrong: list[Any] = [0, -1, 1001, 1.0, True, None, "10"]
        for limit in wrong:
            with subtests.test(repr(limit)), pytest.raises(InvalidArgument):
                await sessions.list_sessions(limit=limit)

    async def test_bad_ids_are_refused_where_a_guess_would_harm(
        self, sessions: SessionManager, subtests: pytest.Subtests
    ) -> None:
        """As `after` and `keep` a text that is no id raises `InvalidArgument`, and nothing is revoked."""
        await sessions.create_session(user_id="u1")
        wrong: list[Any] = ["", "x", "' OR 1=1 --", "0" * 32, "{" + "0" * 36 + "}", 1]
        for text in wrong:
            with subtests.test(repr(text)):
                with pytest.raises(InvalidArgument):
                    await sessions.list_sessions(after=text)
                with pytest.raises(InvalidArgument):
                    await sessions.revoke_user_sessions("u1", keep=text)
                assert await sessions.get_active_session_count() == 1

    async def test_a_list_shows_what_get_shows(self, sessions: SessionManager) -> None:
        """The sessions of a list are whole: metadata, times and counts."""
        new = await sessions.create_session(user_id="u1", metadata={"device": "phone"})
        await sessions.validate_session(new.token)
        assert await sessions.list_sessions("u1") == [await sessions.get_session(new.token)]

    async def test_the_count_is_exact(self, sessions: SessionManager, clock: MovableClock) -> None:
        """After each kind of change the count is the number of live sessions (promise 5)."""
        first = [await sessions.create_session(user_id="u1") for _ in range(4)]
        clock.advance(3600)
        later = [await sessions.create_session() for _ in range(3)]
        assert await sessions.get_active_session_count() == 7
        await sessions.delete_session(first[0].token)
        assert await sessions.get_active_session_count() == 6
        await sessions.rotate_session(first[1].token)
        assert await sessions.get_active_session_count() == 6
        clock.advance(23 * 3600)
        assert await sessions.get_active_session_count() == 3
        await sessions.sweep()
        assert await sessions.get_active_session_count() == 3
        await sessions.end_session(later[0].id)
        assert await sessions.get_active_session_count() == 2

    async def test_revoking_ends_all_sessions_of_a_user(self, sessions: SessionManager) -> None:
        """All of that user's, nobody else's and no anonymous one; the answer is how many (S-22)."""
        mine = [await sessions.create_session(user_id="u1") for _ in range(3)]
        others = [await sessions.create_session(user_id="u2"), await sessions.create_session()]
        assert await sessions.revoke_user_sessions("u1") == 3
        for new in mine:
            await assert_opens_nothing(sessions, new.token, why="revoked")
        for new in others:
            assert await sessions.validate_session(new.token)
        assert await sessions.revoke_user_sessions("u1") == 0
        assert await sessions.create_session(user_id="u1")
        assert len(await sessions.list_sessions("u1")) == 1

    async def test_revoking_may_keep_one(self, sessions: SessionManager) -> None:
        """The session with the id `keep` lives on, rotated or not; an id of somebody else's keeps nothing."""
        kept = await sessions.create_session(user_id="u1")
        gone = [await sessions.create_session(user_id="u1") for _ in range(2)]
        kept = present(await sessions.rotate_session(kept.token))
        assert await sessions.revoke_user_sessions("u1", keep=kept.id) == 2
        assert await sessions.validate_session(kept.token)
        for new in gone:
            assert await sessions.validate_session(new.token) is None
        other = await sessions.create_session(user_id="u2")
        assert await sessions.revoke_user_sessions("u1", keep=other.id) == 1
        assert await sessions.revoke_user_sessions("u2", keep=str(new_id())) == 1

    async def test_erasing_deletes_every_row_of_a_user(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Live, ended and expired sessions go, with every trace of them; the answer is how many rows."""
        expired = await sessions.create_session(user_id="u1")
        clock.advance(24 * 3600)
        live = await sessions.create_session(user_id="u1", metadata={"name": "Ada"})
        ended = await sessions.create_session(user_id="u1")
        ticket, _ = present(await sessions.create_ticket(live.token))
        await sessions.delete_session(ended.token)
        other = await sessions.create_session(user_id="u2")
        assert await sessions.erase_user("u1") == 3
        for new in (expired, live, ended):
            await assert_opens_nothing(sessions, new.token, why="unknown")
            assert await sessions.get_by_id(new.id) is None
        assert await sessions.redeem_ticket(ticket) is None
        assert await sessions.erase_user("u1") == 0
        assert await sessions.validate_session(other.token)

    async def test_more_sessions_than_a_page(self, sessions: SessionManager) -> None:
        """A user may have more than a thousand sessions: pages, count and revocation cover them all."""
        for _ in range(11):
            await asyncio.gather(*(sessions.create_session(user_id="u1") for _ in range(100)))
        assert len(await sessions.list_sessions("u1", limit=1000)) == 1000
        assert len(await read_pages(sessions, "u1", 1000)) == 1100
        assert await sessions.get_active_session_count() == 1100
        assert await sessions.revoke_user_sessions("u1") == 1100
        assert await sessions.get_active_session_count() == 0


async def read_pages(sessions: SessionManager, user_id: str | None, limit: int) -> list[str]:
    """The ids of all pages, one after another."""
    ids: list[str] = []
    while page := await sessions.list_sessions(user_id, limit, ids[-1] if ids else None):
        assert len(page) <= limit
        # A page that does not move on would be followed by itself for ever.
        assert not ids or page[0].id > ids[-1]
        ids += [session.id for session in page]
    return ids
