"""The store away, faults of the application, clients that leave: nothing is half sent, and nothing half done."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast import InvalidArgument, OutcomeUnknown, Overloaded, StoreRefused, StoreUnavailable
from holdfast.testing.faults import Fault
from tests.web.keeping import COOKIE, KINDS, Browser, Keeping, Places, keeping


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


@pytest.fixture
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """For what no store has a part in."""
    return Places("memory", request, tmp_path)


ERRORS = [
    (StoreUnavailable("away"), 503, "unavailable"),
    (Overloaded("full"), 503, "overloaded"),
    (OutcomeUnknown("no answer"), 503, "outcome_unknown"),
    (StoreRefused("damaged"), 500, "store_refused"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=[code for _, _, code in ERRORS])
async def test_the_store_fails_when_it_is_read(places: Places, error: Exception, status: int, code: str) -> None:
    """The application does not run, and the cookie stays: nobody is logged out by that (S-72)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        token, ran = browser.token, site.ran
        site.store.fail("touch", error=error)
        answer = await browser.do(["set", "a", 2])
        assert (answer.status_code, answer.json()["error"]) == (status, code)
        assert ("retry-after" in answer.headers) == (status == 503)
        assert answer.headers["cache-control"] == "no-store"
        assert site.ran == ran
        assert browser.token == token
        assert await browser.read() == {"a": 1}


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=[code for _, _, code in ERRORS])
@pytest.mark.parametrize("method", ["get", "set_metadata"])
async def test_the_store_fails_when_it_is_saved(
    places: Places, method: str, error: Exception, status: int, code: str
) -> None:
    """The error is the answer, nothing of the application's; the session is as before, and can be used (S-72)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        site.store.fail(method, error=error)
        answer = await browser.do(["set", "a", 2])
        assert (answer.status_code, answer.json()["error"]) == (status, code)
        assert "set-cookie" not in answer.headers
        assert await browser.read() == {"a": 1}
        await browser.do(["set", "a", 3])
        assert await browser.read() == {"a": 3}


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("create", [["set", "b", 1]]),
        ("extend", [["set", "b", 1]]),
    ],
    ids=["create", "extend"],
)
async def test_no_session_begins(places: Places, method: str, steps: list[list[Any]]) -> None:
    """A visitor without one has none afterwards, and gets no cookie."""
    async with keeping(places) as site:
        browser = site.browser()
        site.store.fail(method)
        answer = await browser.do(*steps)
        assert answer.status_code == 503
        assert browser.token is None
        assert await site.live() == []


@pytest.mark.parametrize("method", ["get", "create", "extend", "end"])
async def test_a_log_in_that_fails(places: Places, method: str) -> None:
    """Wherever it does: the visitor is who they were, and no session is left over that nobody has (S-15)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "cart", ["tea"]])
        before = await site.session(browser)
        site.store.fail(method)
        answer = await browser.do(["set", "user_id", "u1"])
        assert answer.status_code == 503
        assert "set-cookie" not in answer.headers
        assert await browser.read() == {"cart": ["tea"]}
        assert [each.id for each in await site.live()] == [before.id if before else ""]


async def test_a_log_in_that_cannot_be_taken_back(memory: Places, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which session is left, by its id; it opens to nobody, and expires."""
    async with keeping(memory) as site:
        browser = site.browser()
        await browser.do(["set", "cart", ["tea"]])
        site.store.fail("end")
        site.store.fail("end", at=2)
        assert (await browser.do(["set", "user_id", "u1"])).status_code == 503
        (left,) = [each for each in await site.live() if each.user_id == "u1"]
        assert f"session {left.id} was made for nobody" in caplog.text
        assert await browser.read() == {"cart": ["tea"]}


async def test_a_log_out_that_fails(places: Places) -> None:
    """Its browser is told so and keeps the cookie: it is not logged out, and can try again (S-72)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        site.store.fail("end")
        assert (await browser.do(["clear"])).status_code == 503
        assert await browser.read() == {"user_id": "u1"}
        assert (await browser.do(["clear"])).status_code == 200
        assert await browser.read() == {}


@pytest.mark.parametrize("lost", [False, True])
async def test_an_emptied_session_that_cannot_be_ended(places: Places, lost: bool) -> None:
    """Its browser is told so; the session is over all the same, and the next request ends it."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "flash", "saved"])
        (site.store.lose if lost else site.store.fail)("end")
        answer = await browser.do(["pop", "flash"])
        assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
        assert await browser.read() == {}
        assert await site.live() == []


async def test_no_token_is_in_a_log(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever fails (S-10)."""
    caplog.set_level(logging.DEBUG)
    tokens = set()
    async with keeping(places) as site:
        for method in ("touch", "get", "set_metadata", "end"):
            browser = site.browser()
            await browser.do(["set", "a", 1])
            tokens.add(browser.token)
            site.store.fail(method)
            await browser.do(["set", "a", 2])
            site.store.lose(method)
            await browser.do(["clear"], ["set", "user_id", "u1"])
            tokens.add(browser.token)
    assert tokens
    for token in filter(None, tokens):
        assert token not in caplog.text


# The application


class Answers:
    """What the application sends for one request, message by message."""

    def __init__(self, app: ASGIApp, token: str | None = None, **more: Any) -> None:
        self._app = app
        self.sent: list[Message] = []
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "query_string": b"",
            "root_path": "",
            "headers": [] if token is None else [(b"cookie", f"{COOKIE}={token}".encode())],
            "server": ("app.example.com", 443),
            "client": ("192.0.2.1", 50_000),
            **more,
        }

    async def ask(self, path: str, send: Send | None = None) -> list[str]:
        """The types of the messages that were sent."""
        received = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Message:
            message = next(received, None)
            # The client stays.
            return message or await asyncio.get_running_loop().create_future()

        async def keep(message: Message) -> None:
            self.sent.append(message)

        scope = {**self.scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send or keep)
        return [message["type"] for message in self.sent]

    @property
    def cookies(self) -> list[bytes]:
        """The `Set-Cookie` headers that were sent."""
        headers = [header for message in self.sent for header in message.get("headers", ())]
        return [value for name, value in headers if name == b"set-cookie"]


async def put(request: Request) -> Response:
    """Puts something in."""
    request.session["a"] = 2
    return PlainTextResponse("put")


@pytest.mark.parametrize("handled", [None, Exception, ValueError, StoreUnavailable])
async def test_an_applications_own_handlers(memory: Places, handled: type[Exception] | None) -> None:
    """Whatever the application does with errors, the failure to save is the answer, once (S-72)."""

    async def apology(_: Request, __: Exception) -> Response:
        return PlainTextResponse("sorry", 500)

    handlers = {} if handled is None else {handled: apology}
    async with keeping(memory, Route("/put", put), handlers=handlers) as site:
        site.store.fail("create")
        answers = Answers(site.app)
        assert await answers.ask("/put") == ["http.response.start", "http.response.body"]
        assert answers.sent[0]["status"] == 503
        assert answers.cookies == []


class Stubborn:
    """An application that takes no failure for an answer: it sends on, and tries another answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope["session"]["a"] = scope["value"]
        for _ in range(3):
            for message in (
                {"type": "http.response.start", "status": 200, "headers": ()},
                {"type": "http.response.body", "body": b"from the application"},
            ):
                try:
                    await send(message)
                except Exception:
                    scope["failures"].append(message["type"])


async def test_an_application_that_goes_on(memory: Places) -> None:
    """It may ignore the failure: what it sends reaches nobody, and the failure is the answer."""
    async with keeping(memory, inside=(Middleware(Stubborn),)) as site:
        site.store.fail("create")
        failures: list[str] = []
        answers = Answers(site.app, value=1, failures=failures)
        assert await answers.ask("/") == ["http.response.start", "http.response.body"]
        assert answers.sent[0]["status"] == 503
        assert len(failures) == 6


async def test_an_application_that_hides_its_fault(memory: Places) -> None:
    """What cannot be kept is an error of the application, and comes to light although it looks away."""
    async with keeping(memory, inside=(Middleware(Stubborn),)) as site:
        answers = Answers(site.app, value=object(), failures=[])
        with pytest.raises(InvalidArgument, match=r"request\.session\['a'\]"):
            await answers.ask("/")
        # From Starlette's own outermost layer.
        assert [message.get("status") for message in answers.sent] == [500, None]


@pytest.mark.parametrize("step", [["crash"], ["refuse", 418]], ids=lambda step: step[0])
async def test_a_fault_of_the_application(places: Places, step: list[Any]) -> None:
    """A crash loses what was put in, an answer made of an exception keeps it, both as with Starlette."""
    async with keeping(places) as site:
        browser = site.browser(raises=False)
        await browser.do(["set", "a", 1])
        answer = await browser.do(["set", "a", 2], step)
        assert answer.status_code == (500 if step == ["crash"] else 418)
        assert await browser.read() == {"a": 1 if step == ["crash"] else 2}


def _streaming(site: list[Keeping], fails: bool) -> Route:
    async def stream(request: Request) -> Response:
        request.session["before"] = True

        async def parts() -> AsyncIterator[bytes]:
            yield b"one;"
            # What went before is in the store by now.
            assert [each.metadata for each in await site[0].live()] == [{"before": True}]
            request.session["within"] = True
            if fails:
                raise LookupError("in the middle of the answer")
            yield b"two;"

        return StreamingResponse(parts())

    return Route("/stream", stream)


async def test_a_streamed_answer(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """It is saved when the answer begins. What the stream puts in later is not, as with Starlette; the log says so."""
    sites: list[Keeping] = []
    async with keeping(places, _streaming(sites, fails=False)) as site:
        sites.append(site)
        browser = site.browser()
        assert (await browser.client.get("/stream")).text == "one;two;"
        assert await browser.read() == {"before": True}
    assert "changed after the response had started" in caplog.text


async def test_a_stream_that_breaks(places: Places) -> None:
    """What was saved when it began stays."""
    sites: list[Keeping] = []
    async with keeping(places, _streaming(sites, fails=True)) as site:
        sites.append(site)
        answers = Answers(site.app)
        with pytest.raises(LookupError):
            await answers.ask("/stream")
        assert [each.metadata for each in await site.live()] == [{"before": True}]


# Clients that leave


class GoneError(OSError):
    """What a server raises when there is nobody to send to."""


async def test_a_client_that_has_left(places: Places) -> None:
    """What it asked for is done and saved; only the answer goes nowhere (F-32)."""

    async def gone(_: Message) -> None:
        raise GoneError

    async with keeping(places, Route("/put", put)) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        with pytest.raises(GoneError):
            await Answers(site.app, browser.token).ask("/put", gone)
        assert await browser.read() == {"a": 2}


@pytest.mark.parametrize("method", ["touch", "get", "set_metadata"])
async def test_a_request_that_is_cancelled(places: Places, method: str) -> None:
    """At any call of the store: the change is there whole or not at all, and the session can be used (F-32)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        stalled = site.store.stall(method)
        request = asyncio.create_task(browser.do(["set", "a", 2], ["set", "b", 2]))
        await stalled.arrived.wait()
        request.cancel()
        stalled.release()
        await asyncio.wait((request,))
        assert await browser.read() in ({"a": 1}, {"a": 2, "b": 2})
        await browser.do(["set", "a", 3])
        assert (await browser.read())["a"] == 3


@pytest.mark.parametrize("method", ["create", "extend"])
async def test_a_log_in_that_is_cancelled(places: Places, method: str) -> None:
    """Before the old session has ended nothing comes of it: the visitor is who they were (F-32)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "cart", ["tea"]])
        before = await site.session(browser)
        stalled = site.store.stall(method)
        await _cancelled(browser.do(["set", "user_id", "u1"]), stalled)
        assert before is not None
        await _lives(site, before.id)
        assert await browser.read() == {"cart": ["tea"]}


async def test_a_log_in_that_is_cancelled_late(places: Places) -> None:
    """While the old session ends: the end is made, and no session is left that nobody has the token of (F-32)."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "cart", ["tea"]])
        stalled = site.store.stall("end")
        await _cancelled(browser.do(["set", "user_id", "u1"]), stalled)
        await _lives(site)


@pytest.mark.parametrize("method", ["create", "extend"])
async def test_a_first_change_that_is_cancelled(places: Places, method: str) -> None:
    """No session is left of a visitor who went away before the token was there (F-32)."""
    async with keeping(places) as site:
        stalled = site.store.stall(method)
        await _cancelled(site.browser().do(["set", "a", 1]), stalled)
        await _lives(site)


@pytest.mark.parametrize("cap", [None, 1])
async def test_a_new_token_that_is_cancelled(places: Places, cap: int | None) -> None:
    """The same at the user's cap, where the old session ends first (F-32)."""
    async with keeping(places, policy={"max_sessions_per_user": cap}) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        stalled = site.store.stall("end")
        await _cancelled(browser.do(["clear"], ["set", "user_id", "u1"]), stalled)
        await _lives(site)
        await browser.do(["set", "user_id", "u1"])
        assert await browser.read() == {"user_id": "u1"}


async def _cancelled(asking: Coroutine[Any, Any, object], stalled: Fault) -> None:
    """Ask, and go away when the store has been called."""
    request = asyncio.create_task(asking)
    await stalled.arrived.wait()
    request.cancel()
    await asyncio.wait((request,))
    assert request.cancelled()
    stalled.release()


async def _lives(site: Keeping, *ids: str) -> None:
    """Wait until these sessions live and no others, and nothing goes on any more."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "holdfast-succession"))
    assert [each.id for each in await site.live()] == list(ids)


async def test_many_clients_that_leave(places: Places) -> None:
    """Of many requests cancelled at random moments none keeps a session from the others (F-32, S-80)."""
    async with keeping(places) as site:
        browsers = [site.browser() for _ in range(10)]
        for number, browser in enumerate(browsers):
            await browser.do(["set", "number", number])

        async def leave_early(browser: Browser, turns: int) -> None:
            request = asyncio.create_task(browser.do(["increment", "count"]))
            for _ in range(turns):
                await asyncio.sleep(0)
            request.cancel()
            await asyncio.wait((request,))

        for turns in range(0, 60, 3):
            await asyncio.gather(*(leave_early(browser, turns) for browser in browsers))
        for number, browser in enumerate(browsers):
            await browser.do(["set", "last", True])
            read = await browser.read()
            assert (read["number"], read["last"]) == (number, True)
        assert len(await site.live()) == 10
