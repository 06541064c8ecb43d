"""Requests of one session at the same time: what each leaves of the others' work, and that an end is an end."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.sessions.session import Session
from tests.web.keeping import ALL_KINDS, NAVIGATION, SCRIPT, Browser, Keeping, Places, keeping

PARALLEL = 50


@pytest.fixture(params=ALL_KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


async def begun(site: Keeping, values: dict[str, Any]) -> tuple[Browser, Session]:
    """A browser with a session that holds the values."""
    browser = site.browser()
    await browser.do(["update", values])
    session = await site.session(browser)
    assert session is not None
    return browser, session


def deletes(answer: httpx2.Response) -> bool:
    """Whether the answer takes the cookie away."""
    return answer.headers.get("set-cookie", "").startswith("session=null;")


# Values


async def test_every_parallel_request_keeps_its_key(places: Places) -> None:
    """50 requests that have all read the same session each add a key, and every key is there."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"first": 0})
        async with asyncio.TaskGroup() as group:
            for number in range(PARALLEL):
                group.create_task(browser.do(["hold", "all"], ["set", f"key {number}", number]))
            await site.gates["all"].until_waiting(PARALLEL)
            site.gates["all"].opened.set()
        assert await browser.read() == {"first": 0, **{f"key {number}": number for number in range(PARALLEL)}}
        assert [each.id for each in await site.live()] == [session.id]


async def test_and_on_two_servers(places: Places) -> None:
    """Their requests keep each other's keys as those of one server do, removals too."""
    async with keeping(places) as one, keeping(places) as other:
        browser, _ = await begun(one, {f"old {number}": 0 for number in range(10)})
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                site = (one, other)[number % 2]
                steps: list[list[Any]] = [["hold", "all"], ["set", f"new {number}", number]]
                steps += [["pop", f"old {number}"]] if number < 10 else []
                group.create_task(site.browser(browser).do(*steps))
            for site in (one, other):
                await site.gates["all"].until_waiting(10)
            for site in (one, other):
                site.gates["all"].opened.set()
        assert await browser.read() == {f"new {number}": number for number in range(20)}


async def test_one_key_belongs_to_the_last_writer(places: Places) -> None:
    """Parallel increments are not added up: each writes what it has read and one more, as the page says."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"count": 0, "other": 1})
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(browser.do(["hold", "all"], ["increment", "count"]))
            await site.gates["all"].until_waiting(10)
            site.gates["all"].opened.set()
        assert await browser.read() == {"count": 1, "other": 1}
        for _ in range(3):
            await browser.do(["increment", "count"])
        assert (await browser.read())["count"] == 4


async def test_the_last_key_goes_while_another_comes(places: Places) -> None:
    """Popping the last key that one has read ends nothing if another request has put one in by then."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"flash": "saved"})
        second = site.browser(browser)
        async with asyncio.TaskGroup() as group:
            popping = group.create_task(browser.do(["pop", "flash"], ["hold", "slow"]))
            await site.gates["slow"].arrived.wait()
            await second.do(["set", "cart", ["tea"]])
            site.gates["slow"].opened.set()
        assert not deletes(popping.result())
        assert await second.read() == {"cart": ["tea"]}
        assert [each.id for each in await site.live()] == [session.id]


@pytest.mark.parametrize("method", ["set_metadata", "end"])
async def test_a_key_comes_while_the_emptied_session_ends(places: Places, method: str) -> None:
    """Wherever the end of an emptied session is when another request saves: what that one was answered is kept."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"flash": "saved"})
        second = site.browser(browser)
        stalled = site.store.stall(method)
        async with asyncio.TaskGroup() as group:
            popping = group.create_task(browser.do(["pop", "flash"]))
            await stalled.arrived.wait()
            assert not deletes(await second.do(["set", "cart", ["tea"]]))
            stalled.release()
        assert deletes(popping.result()) is (method == "end")
        assert (await second.read())["cart"] == ["tea"]
        assert len(await site.live()) == 1


@pytest.mark.parametrize("step", [["set", "cart", ["tea"]], ["set", "user_id", "u1"]], ids=["value", "log-in"])
async def test_a_late_key_for_an_emptied_session(places: Places, step: list[Any]) -> None:
    """It is over from the moment that it was emptied: a save that comes late is dropped, a log-in stands (S-19)."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"flash": "saved"})
        second = site.browser(browser)
        stalled = site.store.stall("end")
        async with asyncio.TaskGroup() as group:
            late = group.create_task(second.do(["hold", "slow"], step))
            await site.gates["slow"].arrived.wait()
            group.create_task(browser.do(["pop", "flash"]))
            await stalled.arrived.wait()
            site.gates["slow"].opened.set()
            await asyncio.wait((late,))
            stalled.release()
        assert deletes(late.result()) is (step[1] == "cart")
        assert await second.read() == ({} if step[1] == "cart" else {"user_id": "u1"})
        assert session.id not in [each.id for each in await site.live()]


async def test_between_reading_and_writing_the_store(places: Places) -> None:
    """A change that comes in right between is kept: the save is made again on top of it."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"a": 0})
        second = site.browser(browser)
        stalled = site.store.stall("set_metadata")
        async with asyncio.TaskGroup() as group:
            group.create_task(browser.do(["set", "b", 1]))
            await stalled.arrived.wait()
            await second.do(["set", "c", 1])
            await site.manager.update_metadata_by_id(session.id, {"d": 1})
            stalled.release()
        assert await browser.read() == {"a": 0, "b": 1, "c": 1, "d": 1}


# Ends


@pytest.mark.parametrize("logging_out", [["clear"], ["pop", "user_id"]], ids=lambda step: step[0])
async def test_a_log_out_before_a_late_save(
    places: Places, logging_out: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What the late request has changed is dropped: the session stays ended, the cookie goes (S-19)."""
    caplog.set_level(logging.DEBUG, "holdfast.web")
    async with keeping(places) as site:
        browser, session = await begun(site, {"user_id": "u1"})
        second, token = site.browser(browser), browser.token
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["hold", "slow"], ["set", "cart", ["tea"]]))
            await site.gates["slow"].arrived.wait()
            assert deletes(await second.do(logging_out))
            site.gates["slow"].opened.set()
        assert late.result().status_code == 200
        assert deletes(late.result())
        assert await site.live() == []
        assert token is not None
        assert await site.manager.why_ended(token) == "revoked"
    (record,) = [each for each in caplog.records if session.id in each.getMessage()]
    assert record.levelno == logging.DEBUG
    assert token not in caplog.text


async def test_a_log_out_after_a_late_save(places: Places) -> None:
    """The other order: saved, and then ended with what was saved (S-19)."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"user_id": "u1"})
        second = site.browser(browser)
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(browser.do(["hold", "slow"], ["clear"]))
            await site.gates["slow"].arrived.wait()
            assert not deletes(await second.do(["set", "cart", ["tea"]]))
            assert await second.read() == {"user_id": "u1", "cart": ["tea"]}
            site.gates["slow"].opened.set()
        assert deletes(leaving.result())
        assert await second.read() == {}
        assert await site.live() == []


@pytest.mark.parametrize("method", ["get", "set_metadata"])
async def test_a_log_out_in_the_middle_of_a_save(places: Places, method: str) -> None:
    """Wherever the save is when the end comes, the session stays ended (S-19)."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"user_id": "u1"})
        second = site.browser(browser)
        stalled = site.store.stall(method)
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["set", "cart", ["tea"]]))
            await stalled.arrived.wait()
            await second.do(["clear"])
            stalled.release()
        assert deletes(late.result())
        assert await site.live() == []


async def test_an_end_on_another_server(places: Places) -> None:
    """Between load and save, by an operator: the answer is the application's, the change is dropped (S-19)."""
    async with keeping(places) as one, keeping(places) as other:
        browser, session = await begun(one, {"user_id": "u1"})
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["hold", "slow"], ["set", "cart", ["tea"]]))
            await one.gates["slow"].arrived.wait()
            assert await other.manager.revoke_user_sessions("u1") == 1
            one.gates["slow"].opened.set()
        assert late.result().json() == {"user_id": "u1", "cart": ["tea"]}
        assert deletes(late.result())
        assert await other.manager.get_by_id(session.id) is None


async def test_an_expiry_between_load_and_save(places: Places) -> None:
    """An end by time is an end like any other (S-19)."""
    async with keeping(places, max_age=None) as site:
        browser, _ = await begun(site, {"user_id": "u1"})
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["hold", "slow"], ["set", "cart", ["tea"]]))
            await site.gates["slow"].arrived.wait()
            site.clock.advance(25 * 3600)
            site.gates["slow"].opened.set()
        assert deletes(late.result())
        assert await site.live() == []


@pytest.mark.parametrize(("headers", "taken"), [(SCRIPT, False), (NAVIGATION, True)], ids=["script", "navigation"])
async def test_a_late_answer_spares_a_newer_cookie(places: Places, headers: dict[str, str], taken: bool) -> None:
    """A script's request may have been sent before a log-in that it knows nothing of: its answer takes no cookie."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"cart": ["tea"]})
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["hold", "slow"], ["set", "cart", []], headers=headers))
            await site.gates["slow"].arrived.wait()
            await site.manager.end_session(session.id)
            site.gates["slow"].opened.set()
        assert deletes(late.result()) is taken
        assert late.result().headers["vary"] == "Cookie"
        assert await site.live() == []


async def test_a_new_token_after_a_log_out(places: Places) -> None:
    """Clearing and setting anew is how applications change the token; it does not undo a log-out (S-19)."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"user_id": "u1"})
        second = site.browser(browser)
        renewing: list[list[Any]] = [["hold", "slow"], ["clear"], ["update", {"user_id": "u1", "fresh": True}]]
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(*renewing))
            await site.gates["slow"].arrived.wait()
            await second.do(["clear"])
            site.gates["slow"].opened.set()
        assert deletes(late.result())
        assert await site.live() == []


async def test_parallel_new_tokens(places: Places) -> None:
    """Of 10 requests that change the token at once one does; there is one session at the end (S-14)."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"user_id": "u1"})
        browsers = [site.browser(browser) for _ in range(10)]
        async with asyncio.TaskGroup() as group:
            for each in browsers:
                group.create_task(each.do(["hold", "all"], ["clear"], ["set", "user_id", "u1"]))
            await site.gates["all"].until_waiting(10)
            site.gates["all"].opened.set()
        assert [each.token for each in browsers].count(None) == 9
        (winner,) = [each for each in browsers if each.token is not None]
        assert await winner.read() == {"user_id": "u1"}
        assert len(await site.live()) == 1


async def test_a_log_in_sent_twice(places: Places) -> None:
    """A double click: whichever answer the browser keeps, it is logged in; the session before is over (S-13)."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"cart": ["tea"]})
        browsers = [site.browser(browser) for _ in range(2)]
        async with asyncio.TaskGroup() as group:
            for each in browsers:
                group.create_task(each.do(["hold", "all"], ["set", "user_id", "u1"]))
            await site.gates["all"].until_waiting(2)
            site.gates["all"].opened.set()
        values = [await each.read() for each in browsers]
        assert [each["user_id"] for each in values] == ["u1", "u1"]
        # What the first one carried over is its own; the second one found a session that had ended.
        assert sorted("cart" in each for each in values) == [False, True]
        assert session.id not in [each.id for each in await site.live()]
        assert len(await site.live()) == 2


@pytest.mark.parametrize("method", ["get", "create", "end"])
async def test_a_log_in_to_a_session_that_ends_meanwhile(places: Places, method: str) -> None:
    """The log-in stands, and nothing of the ended session lives on in it (S-19)."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"secret": "of the ended session"})
        stalled = site.store.stall(method)
        async with asyncio.TaskGroup() as group:
            group.create_task(browser.do(["set", "user_id", "u1"]))
            await stalled.arrived.wait()
            assert await site.manager.end_session(session.id)
            stalled.release()
        assert await browser.read() == {"user_id": "u1"}
        assert len(await site.live()) == 1


async def test_a_log_out_of_a_session_that_ends_meanwhile(places: Places) -> None:
    """There is nothing to carry over into a session of nobody's (S-19)."""
    async with keeping(places) as site:
        browser, session = await begun(site, {"user_id": "u1", "secret": "of the ended session"})
        stalled = site.store.stall("create")
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["pop", "user_id"]))
            await stalled.arrived.wait()
            assert await site.manager.end_session(session.id)
            stalled.release()
        assert deletes(late.result())
        assert await site.live() == []


async def test_a_rotation_meanwhile(places: Places) -> None:
    """The session lives on under its new token: the change is kept, and the old cookie is not set again (S-13)."""
    async with keeping(places) as site:
        browser, _ = await begun(site, {"a": 0})
        token = browser.token
        assert token is not None
        async with asyncio.TaskGroup() as group:
            late = group.create_task(browser.do(["hold", "slow"], ["set", "b", 1]))
            await site.gates["slow"].arrived.wait()
            new = await site.manager.rotate_session(token)
            site.gates["slow"].opened.set()
        assert new is not None
        assert "set-cookie" not in late.result().headers
        browser.token = new.token
        assert await browser.read() == {"a": 0, "b": 1}


async def test_random_requests_of_one_session(places: Places) -> None:
    """Whatever order they come in: the store holds what an order of whole saves would leave, or the session ended."""
    async with keeping(places) as site:
        for number in range(10):
            browser, session = await begun(site, {"a": 0})
            async with asyncio.TaskGroup() as group:
                for key in ("b", "c", "d", "e"):
                    group.create_task(site.browser(browser).do(["set", key, number]))
                group.create_task(site.browser(browser).do(["clear"]))
                for key in ("f", "g"):
                    group.create_task(site.browser(browser).do(["set", key, number], ["pop", "a", None]))
            assert await site.manager.get_by_id(session.id) is None
        # A request that was let in after the end found no session, so what it set is a visitor's new one.
        for each in await site.live():
            assert "a" not in each.metadata
