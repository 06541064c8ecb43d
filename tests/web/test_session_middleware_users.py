"""Whose session it is, as the drop-in sees it: a key of the dict, and what changes with it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import InvalidArgument
from tests.web.keeping import KINDS, Places, keeping


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


async def test_logging_in_changes_the_token(places: Places) -> None:
    """A new session carries the values over, and whoever planted the old token has nothing (S-13)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "cart", ["tea"]])
        planted = browser.token
        assert planted is not None
        await browser.do(["set", "user_id", "u1"])
        session = await site.session(browser)
        assert session is not None
        assert session.user_id == "u1"
        assert await browser.read() == {"cart": ["tea"], "user_id": "u1"}
        assert browser.token != planted
        assert await site.manager.why_ended(planted) == "revoked"
        assert [each.id for each in await site.live()] == [session.id]


async def test_logging_in_carries_what_others_wrote(places: Places) -> None:
    """Not only what this request had read: what is in the store by then."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["update", {"cart": [], "gone": 1}])
        second = site.browser(browser)
        slow = site.gates["slow"]
        async with asyncio.TaskGroup() as group:
            group.create_task(browser.do(["pop", "gone"], ["hold", "slow"], ["set", "user_id", "u1"]))
            await slow.arrived.wait()
            await second.do(["set", "theme", "dark"])
            slow.opened.set()
        assert await browser.read() == {"cart": [], "theme": "dark", "user_id": "u1"}


@pytest.mark.parametrize("left", [{}, {"theme": "dark"}], ids=["alone", "with more"])
async def test_logging_out_by_the_key(places: Places, left: dict[str, Any]) -> None:
    """Removing it ends the session; what is left goes on in one of nobody's, under a new token."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["update", {"user_id": "u1", **left}])
        before = await site.session(browser)
        assert before is not None
        await browser.do(["pop", "user_id"])
        after = await site.session(browser)
        assert (after is None) == (not left)
        assert after is None or (after.user_id, after.metadata) == (None, left)
        assert await browser.read() == left
        assert before.id not in [each.id for each in await site.live()]


async def test_changing_the_user(places: Places) -> None:
    """From one user to another without logging out: a new session of the other."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        await browser.do(["set", "user_id", "u2"])
        assert [each.user_id for each in await site.live()] == ["u2"]


@pytest.mark.parametrize("steps", [[["set", "user_id", "u1"]], [["set", "theme", "dark"]]], ids=["the same", "another"])
async def test_the_same_user_is_no_log_in(places: Places, steps: list[list[Any]]) -> None:
    """The session and its token stay."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        token = browser.token
        await browser.do(*steps)
        assert browser.token == token


@pytest.mark.parametrize("nobody", [None, ""])
async def test_nobody(places: Places, nobody: str | None) -> None:
    """None and the empty text name no user, so that setting them is no log-in."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "theme", "dark"])
        token = browser.token
        await browser.do(["set", "user_id", nobody])
        assert browser.token == token
        assert await browser.read() == {"theme": "dark", "user_id": nobody}


@pytest.mark.parametrize(("value", "user"), [(5, "5"), (0, "0"), ("5", "5"), ("ü", "ü")])
async def test_numbers_are_users_too(places: Places, value: Any, user: str) -> None:
    """As their digits; the dict keeps the number."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", value])
        assert [each.user_id for each in await site.live()] == [user]
        assert await browser.read() == {"user_id": value}


@pytest.mark.parametrize("value", [True, 1.5, ["u1"], {"id": 1}, "u" * 256, "a\nb"])
async def test_what_is_no_user(places: Places, value: Any) -> None:
    """It is refused with the key's name, and the session is as before."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "theme", "dark"])
        with pytest.raises(InvalidArgument, match=r"'user_id'.*user_key"):
            await browser.do(["set", "user_id", value])
        assert await browser.read() == {"theme": "dark"}
        assert len(await site.live()) == 1


async def test_another_key(places: Places) -> None:
    """The application says which; `user_id` is a value like any other then."""
    async with keeping(places, user_key="account") as site:
        browser = site.browser()
        await browser.do(["set", "user_id", {"any": "thing"}])
        token = browser.token
        await browser.do(["set", "account", "a1"])
        assert browser.token != token
        assert [each.user_id for each in await site.live()] == ["a1"]


async def test_no_key(places: Places) -> None:
    """Without one no session has a user, and its token stays."""
    async with keeping(places, user_key=None) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        token = browser.token
        await browser.do(["set", "user_id", "u2"])
        assert browser.token == token
        assert [each.user_id for each in await site.live()] == [None]


async def test_logging_the_others_out(places: Places) -> None:
    """With the manager, keeping the session at hand by its public id (S-20)."""
    async with keeping(places) as site:
        here, there, other = (site.browser() for _ in range(3))
        for browser, user in ((here, "u1"), (there, "u1"), (other, "u2")):
            await browser.do(["set", "user_id", user])
        await here.do(["read"])
        assert await site.manager.revoke_user_sessions("u1", keep=site.seen[-1].id) == 1
        assert [await browser.read() for browser in (here, there, other)] == [
            {"user_id": "u1"},
            {},
            {"user_id": "u2"},
        ]


async def test_clearing_and_setting_anew(places: Places) -> None:
    """The way applications change the token themselves: a new session, of what was put in after that (S-13)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["update", {"user_id": "u1", "old": 1}])
        token = browser.token
        assert token is not None
        await browser.do(["clear"], ["update", {"user_id": "u1", "new": 1}])
        assert browser.token != token
        assert await site.manager.get_session(token) is None
        assert await browser.read() == {"user_id": "u1", "new": 1}
        assert [each.user_id for each in await site.live()] == ["u1"]


@pytest.mark.parametrize("steps", [[["clear"], ["set", "user_id", "u1"]], [["clear"]]], ids=["and logged in", "alone"])
async def test_clearing_what_was_empty(places: Places, steps: list[list[Any]]) -> None:
    """A visitor without a session has nothing to end."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(*steps)
        assert len(await site.live()) == len(steps) - 1


# The cap


async def test_a_new_token_at_the_cap(places: Places) -> None:
    """The session that is replaced takes no place, so it fits however low the cap is."""
    async with keeping(places, policy={"max_sessions_per_user": 1}) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        await browser.do(["clear"], ["set", "user_id", "u1"])
        assert await browser.read() == {"user_id": "u1"}
        assert len(await site.live()) == 1


async def test_a_log_in_beyond_the_cap(places: Places) -> None:
    """It is refused, and the visitor stays who they were (S-23)."""
    async with keeping(places, policy={"max_sessions_per_user": 1}) as site:
        first, second = site.browser(), site.browser()
        await first.do(["set", "user_id", "u1"])
        await second.do(["set", "cart", ["tea"]])
        answer = await second.do(["set", "user_id", "u1"])
        assert answer.status_code == 409
        assert answer.json()["error"] == "too_many_sessions"
        assert "set-cookie" not in answer.headers
        assert await second.read() == {"cart": ["tea"]}
        assert await first.read() == {"user_id": "u1"}


async def test_a_log_in_that_evicts(places: Places) -> None:
    """The oldest makes room (S-23)."""
    async with keeping(places, policy={"max_sessions_per_user": 1, "at_cap": "evict"}) as site:
        first, second = site.browser(), site.browser()
        await first.do(["set", "user_id", "u1"])
        await second.do(["set", "user_id", "u1"])
        await second.do(["clear"], ["set", "user_id", "u1"])
        assert await first.read() == {}
        assert await second.read() == {"user_id": "u1"}
