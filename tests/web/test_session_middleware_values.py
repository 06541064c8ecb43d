"""What the drop-in keeps of values, and how long it keeps them."""

import itertools
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from holdfast import InvalidArgument
from holdfast.sessions.metadata import MAX_BYTES, MAX_KEYS
from holdfast.web.session_dict import Changes
from holdfast.web.session_rules import SAVED_AT
from tests.web.keeping import KINDS, Places, keeping

HOUR = 3600


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


@pytest.mark.parametrize(
    "value",
    [None, {"a": None, "b": {}}, {}, [], [None], 0, False, "", 1.5, "ü", "\u2028", {"deep": [{"er": [1]}]}, -(2**53)],
    ids=repr,
)
async def test_a_value_is_kept_as_it_was_set(places: Places, value: Any) -> None:
    """Nulls and objects too: nothing is merged into it, and nothing is taken for a removal."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "key", {"a": 1, "b": {"c": 2}}])
        await browser.do(["set", "key", value])
        assert await browser.read() == {"key": value}
        await browser.do(["set", "other", 1])
        read = await browser.read()
        assert read == {"key": value, "other": 1}
        assert type(read["key"]) is type(value)


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), ([1], [True]), (None, False)])
async def test_equal_to_python_is_not_the_same(places: Places, before: Any, after: Any) -> None:
    """1 and True are two values, so changing one to the other is a change."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "key", before])
        await browser.do(["set", "key", after])
        assert repr((await browser.read())["key"]) == repr(after)


@pytest.mark.parametrize(
    ("value", "kept"),
    [((1, 2), [1, 2]), ({1: "a", None: "b"}, {"1": "a", "null": "b"}), (1.0, 1)],
    ids=["tuple", "keys", "whole float"],
)
async def test_what_json_makes_of_it(places: Places, value: Any, kept: Any) -> None:
    """The same as Starlette's cookie would make of it."""
    async with keeping(places) as site:
        browser = site.browser()
        site.values["value"] = value
        await browser.do(["put", "key", "value"])
        assert await browser.read() == {"key": kept}


_ITSELF: list[Any] = []
_ITSELF.append(_ITSELF)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        b"bytes",
        date(2026, 1, 1),
        float("nan"),
        float("inf"),
        2**53 + 1,
        "a\0b",
        "\ud800",
        _ITSELF,
        _nested(17),
        _nested(100_000),
        {(1, 2): 3},
        "x" * (MAX_BYTES + 1),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_cannot_be_kept(places: Places, value: Any) -> None:
    """`InvalidArgument` names the key; the session and its cookie are as before (S-51, S-52, S-53)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "good", 1])
        session, token = await site.session(browser), browser.token
        site.values["value"] = value
        for steps in ([["put", "cart", "value"]], [["clear"], ["put", "cart", "value"]], [["put", "cart", "value"]]):
            with pytest.raises(InvalidArgument, match=r"request\.session\['cart'\] cannot be kept: "):
                await browser.do(["set", "good", 2], *steps)
        assert browser.token == token
        after = await site.session(browser)
        assert after is not None
        assert session is not None
        assert (after.id, after.metadata) == (session.id, {"good": 1})


async def test_too_much_together(places: Places) -> None:
    """16 KiB and 64 keys for the whole session: the error names the largest key, nothing is lost (S-51)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["update", {"small": "s", "large": "l" * (MAX_BYTES - 100)}])
        with pytest.raises(InvalidArgument, match=f"at most {MAX_BYTES} are allowed; the largest key is 'large'"):
            await browser.do(["set", "more", "m" * 100])
        assert len((await browser.read())["large"]) == MAX_BYTES - 100
        await browser.do(["clear"], ["update", {str(number): number for number in range(MAX_KEYS)}])
        with pytest.raises(InvalidArgument, match=f"{MAX_KEYS + 1} keys; at most {MAX_KEYS} are allowed"):
            await browser.do(["set", "more", 1])
        assert len(await browser.read()) == MAX_KEYS


async def test_a_huge_dict(places: Places) -> None:
    """A visitor without a session gets none from it (S-51)."""
    async with keeping(places) as site:
        browser = site.browser()
        site.values["huge"] = {f"key {number}": "x" * 1000 for number in range(10_000)}
        with pytest.raises(InvalidArgument, match=r"request\.session\['huge'\] cannot be kept: .* bytes"):
            await browser.do(["put", "huge", "huge"])
        assert browser.token is None
        assert site.calls == 0


async def test_a_session_from_elsewhere(places: Places) -> None:
    """What the application's other parts put into the metadata is in the dict, and stays through a save."""
    async with keeping(places) as site:
        browser = site.browser()
        new = await site.manager.create_session("u1", {"lang": "ko", "deep": {"a": None}})
        browser.token = new.token
        assert await browser.read() == {"lang": "ko", "deep": {"a": None}}
        await browser.do(["set", "a", 1])
        session = await site.session(browser)
        assert session is not None
        assert (session.id, session.user_id) == (new.id, "u1")
        assert session.metadata == {"lang": "ko", "deep": {"a": None}, "a": 1}


def test_changes_bring_about_what_they_were_made_from() -> None:
    """For every pair of small dicts, and on top of what a third has put in."""
    values = [None, 1, True, {}, {"a": None}]
    dicts = [
        dict(zip(keys, pair, strict=False)) for keys in ("", "a", "ab") for pair in itertools.product(values, repeat=2)
    ]
    for before, now in itertools.product(dicts, repeat=2):
        changes = Changes.between(before, now)
        assert repr(dict(sorted(changes.onto(before).items()))) == repr(dict(sorted(now.items())))
        assert changes.onto({**before, "c": 3}).pop("c") == 3


# How long


async def _left(site: Any, browser: Any) -> float:
    """Seconds until the session expires, from the store's now."""
    session = await site.session(browser)
    assert session is not None
    return float((session.expires_at - await site.manager.ping()).total_seconds())


@pytest.mark.parametrize(("max_age", "hours"), [(14 * 24 * HOUR, 14 * 24), (100 * 24 * HOUR, 30 * 24), (None, 24)])
async def test_a_session_lives_for_max_age(places: Places, max_age: int | None, hours: int) -> None:
    """In the store as in the browser, not past the manager's cap; without one for the manager's lifetime (S-17)."""
    async with keeping(places, max_age=max_age) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        assert hours * HOUR - 60 < await _left(site, browser) <= hours * HOUR


async def test_a_save_begins_it_anew(places: Places) -> None:
    """And sends the cookie again; reading does neither."""
    async with keeping(places, max_age=48 * HOUR) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        site.clock.advance(24 * HOUR)
        assert "set-cookie" not in (await browser.do(["read"])).headers
        assert await _left(site, browser) < 24 * HOUR
        assert "Max-Age=172800" in (await browser.do(["set", "a", 2])).headers["set-cookie"]
        assert await _left(site, browser) > 48 * HOUR - 60


async def test_setting_the_same_begins_it_anew_as_well(places: Places) -> None:
    """As with Starlette, an assignment is a change, whatever was there; the value is not written again."""
    async with keeping(places, max_age=48 * HOUR) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        site.clock.advance(24 * HOUR)
        assert "set-cookie" in (await browser.do(["set", "a", 1])).headers
        assert await _left(site, browser) > 48 * HOUR - 60
        assert site.store.calls["set_metadata"] == 0


async def test_the_expiry_is_not_written_for_nothing(places: Places) -> None:
    """Less than a percent of the time is not worth a write."""
    async with keeping(places, max_age=100 * HOUR) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        extensions = site.store.calls["extend"]
        for number in range(2, 5):
            await browser.do(["set", "a", number])
        assert site.store.calls["extend"] == extensions
        site.clock.advance(1.1 * HOUR)
        await browser.do(["set", "a", 5])
        assert site.store.calls["extend"] == extensions + 1


async def test_the_cap_is_never_passed(places: Places) -> None:
    """However often it is saved, and at the cap nothing tries any more (S-17)."""
    async with keeping(places, max_age=48 * HOUR, policy={"max_lifetime": 72 * HOUR}) as site:
        browser = site.browser()
        for number in range(3):
            await browser.do(["set", "a", number])
            site.clock.advance(23 * HOUR)
        await browser.do(["set", "a", "last"])
        extensions = site.store.calls["extend"]
        await browser.do(["set", "a", "of all"])
        assert site.store.calls["extend"] == extensions
        assert await _left(site, browser) < 3 * HOUR
        site.clock.advance(3 * HOUR)
        assert await browser.read() == {}


async def test_a_max_age_shorter_than_the_lifetime(places: Places) -> None:
    """It ends the session on the server too, counted from the last save, though nothing moves an expiry back (S-17)."""
    async with keeping(places, max_age=HOUR) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        token = browser.token
        assert token is not None
        for number in range(3):
            site.clock.advance(0.9 * HOUR)
            await browser.do(["set", "a", number])
            assert browser.token == token
        site.clock.advance(0.9 * HOUR)
        assert await browser.read() == {"a": 2}
        session = await site.session(browser)
        assert session is not None
        assert SAVED_AT in session.metadata
        site.clock.advance(0.2 * HOUR)
        # A client that keeps the cookie longer than it was told to.
        assert await site.browser(browser).read() == {}
        assert await site.manager.why_ended(token) == "expired"


async def test_a_shorter_max_age_counts_from_the_beginning(places: Places) -> None:
    """For a session that was never saved again."""
    async with keeping(places, max_age=HOUR) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        site.clock.advance(1.1 * HOUR)
        assert await site.browser(browser).read() == {}


async def test_no_age_at_all(places: Places) -> None:
    """With a negative one it is over before it is read for the first time."""
    async with keeping(places, max_age=-1) as site:
        answer = await site.browser().do(["set", "some", "data"])
        browser = site.browser()
        browser.token = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert await browser.read() == {}


async def test_requests_keep_it_from_idling_out(places: Places) -> None:
    """Also those that do not look at it."""
    async with keeping(places, policy={"idle_timeout": HOUR}) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        for _ in range(3):
            site.clock.advance(0.9 * HOUR)
            await browser.do()
        assert await browser.read() == {"a": 1}
        site.clock.advance(1.1 * HOUR)
        assert await browser.read() == {}
