"""Log-in, log-out, rotation and dead cookies: what becomes of the session and of the cookie."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holdfast import InvalidArgument, Overloaded, SessionManager, StoreRefused, StoreUnavailable
from holdfast.memory import MemoryStore
from holdfast.sessions.tokens import new_token
from holdfast.testing import Fault
from holdfast.web.cookies import DEFAULT_NAME, CookieOptions
from holdfast.web.errors import CrossSite, NoSession
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.origins import Origins
from holdfast.web.visitor import Visitor
from holdfast.web.visitor_options import VisitorOptions
from tests.web.site import LINK, Site, running, starlette_site, streamed


def holding(token: str) -> dict[str, str]:
    """The header of a browser that has this token in its cookie."""
    return {"Cookie": f"{DEFAULT_NAME}={token}"}


async def opens(site: Site, token: str) -> bool:
    """Whether a token opens a session."""
    return await site.manager.get_session(token) is not None


# Log-in


async def test_log_in_ends_the_session_that_was_there() -> None:
    """S-13: an anonymous session's token, which somebody may have planted, is dead after log-in; the new one is new."""
    async with running() as site:
        planted = (await site.manager.create_session()).token
        site.browser.cookies.set(DEFAULT_NAME, planted, domain="app.test", path="/")
        answer = await site.browser.post("/log-in", params={"user": "u1"})
        token = answer.json()["token"]
        assert token != planted
        assert not await opens(site, planted)
        assert await opens(site, token)
        assert await site.manager.why_ended(planted) == "revoked"


async def test_log_in_again_ends_the_session_before() -> None:
    """S-13: as the same user or as another one; one session is left, and it is the new one."""
    async with running() as site:
        for user in ("u1", "u1", "u2"):
            before = site.token
            id = await site.log_in(user)
            assert before is None or not await opens(site, before)
            live = await site.manager.list_sessions()
            assert [(session.id, session.user_id) for session in live] == [(id, user)]


async def test_a_token_that_nobody_issued_is_not_adopted() -> None:
    """S-04, S-13: log-in with a made-up cookie gives another token, and the made-up one never opens anything."""
    async with running() as site:
        for made_up in (new_token(), "session-1234", "x"):
            site.browser.cookies.set(DEFAULT_NAME, made_up, domain="app.test", path="/")
            answer = await site.browser.post("/log-in", params={"user": "u1"})
            assert answer.json()["token"] != made_up
            assert not await opens(site, made_up)


async def test_log_in_replaces_a_token_that_was_rotated_meanwhile() -> None:
    """S-13: the session ends by its id, so a rotation in between does not save it."""
    async with running() as site:
        await site.log_in("u1")
        old = site.token
        assert old is not None
        fault = site.store.stall("create")
        logging_in = asyncio.create_task(site.log_in("u2"))
        await fault.arrived.wait()
        rotated = await site.manager.rotate_session(old)
        assert rotated is not None
        fault.release()
        await logging_in
        assert not await opens(site, rotated.token)
        assert await site.who() == "u2"


async def test_a_log_in_that_fails_leaves_the_visitor_as_before() -> None:
    """S-15: when the new session cannot be made, or the old one cannot be ended, the old cookie still works."""
    async with running() as site:
        await site.log_in("u1")
        for method in ("create", "end"):
            site.store.fail(method)
            answer = await site.browser.post("/log-in", params={"user": "u2"})
            assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
            assert await site.who() == "u1"
            live = await site.manager.list_sessions()
            assert [session.user_id for session in live] == ["u1"]


async def test_the_session_before_takes_no_place_under_the_cap() -> None:
    """S-23: at the cap, refusing or evicting, the same user logs in again, and no other device is evicted for it."""
    async with running(policy={"max_sessions_per_user": 2, "at_cap": "evict"}) as site, site.new_browser() as other:
        await other.post("/log-in", params={"user": "u1"})
        await site.log_in("u1")
        await site.log_in("u1")
        assert (await other.get("/me")).status_code == 200
    async with running(policy={"max_sessions_per_user": 1, "at_cap": "refuse"}) as site, site.new_browser() as other:
        await site.log_in("u1")
        await site.log_in("u1")
        refused = await other.post("/log-in", params={"user": "u1"})
        assert (refused.status_code, refused.json()["error"]) == (409, "too_many_sessions")
        assert "set-cookie" not in refused.headers
        assert await site.who() == "u1"


async def _logs_in_and_fails(request: Request) -> Response:
    await Visitor.of(request).log_in("u1")
    raise ZeroDivisionError


async def _logs_in_and_refuses(request: Request) -> Response:
    await Visitor.of(request).log_in("u1")
    raise HTTPException(418)


async def test_a_token_that_reached_nobody_is_taken_back() -> None:
    """A log-in whose handler fails leaves no session that nobody has the token of; one that answers, does."""
    routes = [
        Route("/fails", _logs_in_and_fails, methods=["POST"]),
        Route("/refuses", _logs_in_and_refuses, methods=["POST"]),
    ]
    async with running(starlette_site, *routes) as site:
        failed = await site.browser.post("/fails")
        assert (failed.status_code, "set-cookie" in failed.headers) == (500, False)
        assert await site.manager.get_active_session_count() == 0
        refused = await site.browser.post("/refuses")
        assert (refused.status_code, "set-cookie" in refused.headers) == (418, True)
        assert await site.who() == "u1"


@pytest.mark.parametrize("cap", [None, 1])
@pytest.mark.parametrize("method", ["create", "end"])
@pytest.mark.parametrize("user", ["u1", "u2"])
async def test_a_log_in_that_is_cancelled(method: str, cap: int | None, user: str) -> None:
    """At any call of the store, at the cap too: no session is left that nobody has the token of (F-32, S-23)."""
    async with running(policy={"max_sessions_per_user": cap}) as site:
        id = await site.log_in("u1")
        stalled = site.store.stall("create_capped" if method == "create" and cap is not None else method)
        await _cancelled(site.browser.post("/log-in", params={"user": user}), stalled)
        live = [session.id for session in await site.manager.list_sessions()]
        # Where the new session came first, the old one is there until it was to be ended.
        assert live == ([id] if method != "end" and (cap is None or user == "u2") else [])
        await site.log_in(user)
        assert await site.who() == user


async def test_a_first_log_in_that_is_cancelled() -> None:
    """No session is left of a visitor who went away before there was a token (F-32)."""
    async with running() as site:
        stalled = site.store.stall("create")
        await _cancelled(site.browser.post("/log-in", params={"user": "u1"}), stalled)
        assert await site.manager.list_sessions() == []


@pytest.mark.parametrize("again", [False, True])
async def test_a_handler_that_is_cancelled_after_its_log_in(again: bool) -> None:
    """Its token reached nobody, so it is taken back; however often the cancellation comes (F-32)."""
    logged_in = asyncio.Event()

    async def slow(request: Request) -> Response:
        await Visitor.of(request).log_in("u1")
        logged_in.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with running(starlette_site, Route("/slow", slow, methods=["POST"])) as site:
        request = asyncio.create_task(site.browser.post("/slow"))
        await logged_in.wait()
        stalled = site.store.stall("end")
        request.cancel()
        await stalled.arrived.wait()
        if again:
            request.cancel()
        stalled.release()
        await asyncio.wait((request,))
        assert request.cancelled()
        await _settled()
        assert await site.manager.list_sessions() == []


async def _cancelled(asking: Coroutine[Any, Any, object], stalled: Fault) -> None:
    """Ask, go away when the store has been called, and wait until nothing goes on any more."""
    request = asyncio.create_task(asking)
    await stalled.arrived.wait()
    request.cancel()
    await asyncio.wait((request,))
    assert request.cancelled()
    stalled.release()
    await _settled()


async def _settled() -> None:
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "holdfast-succession"))


async def test_a_program_that_logs_in_again_gets_no_cookie() -> None:
    """The answer goes back the way the credential came; the session before ends all the same."""
    async with running() as site, site.new_browser(Accept="*/*") as program:
        first = (await site.manager.create_session("u1")).token
        answer = await program.post("/log-in", params={"user": "u1"}, headers={"Authorization": f"Bearer {first}"})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert "set-cookie" not in answer.headers
        assert not await opens(site, first)
        assert await opens(site, answer.json()["token"])


async def test_a_page_elsewhere_cannot_log_its_visitor_in() -> None:
    """S-33: a log-in that names another origin is refused; by a link, as identity providers send it, it is not."""
    async with running(origins=Origins(["https://idp.test"])) as site:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.test"}, {"Origin": "null"}):
            async with site.new_browser(**headers) as elsewhere:
                assert (await elsewhere.post("/log-in", params={"user": "u1"})).status_code == 403
        assert await site.manager.get_active_session_count() == 0
        for method, headers in (
            ("GET", {"Sec-Fetch-Site": "cross-site"}),
            ("POST", {"Origin": "https://idp.test"}),
            ("POST", {"Accept": "*/*"}),
        ):
            async with site.new_browser(**headers) as permitted:
                assert (await permitted.request(method, "/log-in", params={"user": "u1"})).status_code == 200


# Log-out and rotation


async def test_log_out_can_clear_what_the_browser_keeps() -> None:
    """S-35: with the option the answer to a log-out has Clear-Site-Data, and no other answer has."""
    async with running(clear_site_data=["cache", "storage"]) as site:
        entered = await site.browser.post("/log-in", params={"user": "u1"})
        looked = await site.browser.get("/me")
        left = await site.browser.post("/log-out")
        assert left.headers["clear-site-data"] == '"cache", "storage"'
        assert not any("clear-site-data" in answer.headers for answer in (entered, looked))
    async with running() as site:
        await site.log_in()
        assert "clear-site-data" not in (await site.browser.post("/log-out")).headers


@pytest.mark.parametrize("path", ["/log-out", "/rotate"])
async def test_no_link_from_elsewhere_changes_a_session(path: str) -> None:
    """S-34: where an application does this by GET, only its own pages' links do it."""
    async with running() as site:
        await site.log_in()
        token = site.token
        assert token is not None
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
            assert (await site.browser.get(path, headers=headers)).status_code == 403
            assert site.token == token
            assert await opens(site, token)
        async with site.new_browser(Accept="*/*") as unknown:
            assert (await unknown.get(path, headers=holding(token))).status_code == 403
        assert (await site.browser.get(path)).status_code == 200
        assert not await opens(site, token)


async def test_a_crawl_changes_nothing() -> None:
    """S-34: the kit answers no path of its own, and what only looks changes nothing but the activity."""
    async with running() as site:
        id = await site.log_in()
        token = site.token
        for path in ("/maybe", "/me", "/plain", "/", "/sessions", "/holdfast", "/logout"):
            await site.browser.get(path, headers=LINK)
        assert site.token == token
        live = await site.manager.list_sessions()
        assert [(session.id, session.metadata) for session in live] == [(id, {})]


async def test_log_out_without_a_session_is_harmless() -> None:
    """Twice, with a dead cookie, with none: false each time, and a dead cookie goes."""
    async with running() as site:
        assert (await site.browser.post("/log-out")).json() == {"ended": False}
        await site.log_in()
        token = site.token
        assert token is not None
        assert (await site.browser.post("/log-out")).json() == {"ended": True}
        async with site.new_browser() as stale:
            stale.cookies.set(DEFAULT_NAME, token, domain="app.test", path="/")
            assert (await stale.post("/log-out")).json() == {"ended": False}
            assert dict(stale.cookies) == {}
        assert site.store.calls["create"] == 1


async def test_log_out_by_a_bearer_leaves_the_cookie_alone() -> None:
    """The credential that decides is the one that ends."""
    async with running() as site:
        await site.log_in("u1")
        token, _ = await site.manager.create_session("u2")
        answer = await site.browser.post("/log-out", headers={"Authorization": f"Bearer {token}"})
        assert (answer.json(), "set-cookie" in answer.headers) == ({"ended": True}, False)
        assert not await opens(site, token)
        assert await site.who() == "u1"


async def test_of_parallel_rotations_one_sets_the_cookie() -> None:
    """S-14: twenty at once give one new cookie, and none of the others takes it away."""
    async with running() as site:
        await site.log_in()
        token = site.token
        assert token is not None
        async with site.new_browser() as bare:
            answers = await asyncio.gather(*(bare.post("/rotate", headers=holding(token)) for _ in range(20)))
        cookies = [answer.headers["set-cookie"] for answer in answers if "set-cookie" in answer.headers]
        assert [answer.json() for answer in answers].count({"rotated": True}) == len(cookies) == 1
        assert not await opens(site, token)


# One request


async def test_a_session_is_validated_once_for_a_request() -> None:
    """However many tasks ask at the same time: one call of the store, one activity, one answer."""

    async def many(request: Request) -> Response:
        asking = Visitor.of(request)
        found = await asyncio.gather(*(asking.session() for _ in range(20)))
        assert len(set(map(id, found))) == 1
        return JSONResponse({"count": found[0].request_count if found[0] else None})

    async with running(starlette_site, Route("/many", many)) as site:
        await site.log_in()
        before = site.calls
        assert (await site.browser.get("/many")).json() == {"count": 1}
        assert site.calls == before + 1


async def test_a_look_without_a_touch() -> None:
    """`peek` finds the session and records no activity; after `session` it costs nothing."""

    async def peek(request: Request) -> Response:
        asking = Visitor.of(request)
        peeked, session, again = await asking.peek(), await asking.session(), await asking.peek()
        return JSONResponse([each.request_count if each else None for each in (peeked, session, again)])

    async with running(starlette_site, Route("/peek", peek)) as site:
        assert (await site.browser.get("/peek")).json() == [None, None, None]
        await site.log_in()
        before = site.calls
        assert (await site.browser.get("/peek")).json() == [0, 1, 1]
        assert site.calls == before + 2


async def test_a_visitor_after_its_changes() -> None:
    """Within one request: after log-in the new session, after rotation the same, after log-out none; one cookie."""

    async def all_of_it(request: Request) -> Response:
        asking = Visitor.of(request)
        seen: list[str | None] = []
        for user in ("u1", "u2"):
            await asking.log_in(user)
            session = await asking.session()
            seen.append(session.user_id if session else None)
        await asking.rotate()
        session = await asking.session()
        seen.append(session.user_id if session else None)
        if "out" in request.query_params:
            assert await asking.log_out()
            assert not await asking.log_out()
            assert await asking.rotate() is None
            assert await asking.session() is None
        return JSONResponse(seen)

    async with running(starlette_site, Route("/all", all_of_it, methods=["POST"])) as site:
        assert (await site.browser.post("/all")).json() == ["u1", "u2", "u2"]
        assert await site.who() == "u2"
        assert (await site.browser.post("/all?out")).json() == ["u1", "u2", "u2"]
        assert site.token is None
        assert await site.manager.get_active_session_count() == 0


@pytest.mark.parametrize("verb", ["log_in", "log_out", "rotate"])
async def test_no_cookie_after_the_answer_has_begun(verb: str) -> None:
    """A clear error, before the store is asked; the session stays as it is."""

    async def late(asking: Visitor) -> None:
        await (asking.log_in("u2") if verb == "log_in" else getattr(asking, verb)())

    async with running(starlette_site, streamed(late)) as site:
        await site.log_in("u1")
        before = site.calls
        answer = await site.browser.post("/stream")
        assert answer.text.startswith("began; the answer has begun, so its cookie cannot change")
        assert site.calls == before
        assert await site.who() == "u1"


async def test_a_log_in_that_the_answer_overtook() -> None:
    """When the answer begins while the new session is being made, it is ended again: nobody has its token."""

    async def racing(request: Request) -> Response:
        asking = Visitor.of(request)
        fault = site.store.stall("create")
        task = asyncio.create_task(asking.log_in("u2"))
        await fault.arrived.wait()

        class Overtaking(JSONResponse):
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await super().__call__(scope, receive, send)
                fault.release()
                with pytest.raises(RuntimeError, match="the answer has begun"):
                    await task

        return Overtaking({})

    async with running(starlette_site, Route("/racing", racing, methods=["POST"])) as site:
        answer = await site.browser.post("/racing")
        assert "set-cookie" not in answer.headers
        assert await site.manager.get_active_session_count() == 0


# Dead cookies


async def dead_tokens(site: Site) -> dict[str, str]:
    """One token for each way to be dead."""
    tokens = {name: (await site.manager.create_session(name)).token for name in ("expired", "revoked", "replaced")}
    site.clock.advance(25 * 3600)
    tokens |= {name: (await site.manager.create_session(name)).token for name in ("revoked", "replaced")}
    await site.manager.delete_session(tokens["revoked"])
    await site.manager.rotate_session(tokens["replaced"])
    return tokens | {"unknown": new_token(), "no token": "session-1234"}


async def test_a_dead_cookie_is_deleted_alike_whatever_killed_it() -> None:
    """S-04, S-07: expired, revoked, replaced, unknown or no token at all: the same bytes, which delete it."""
    async with running() as site, site.new_browser(**LINK) as browser:
        for path, status in (("/maybe", 200), ("/me", 401)):
            answers = [await browser.get(path, headers=holding(token)) for token in (await dead_tokens(site)).values()]
            assert {answer.status_code for answer in answers} == {status}
            assert len({(answer.content, tuple(answer.headers.items())) for answer in answers}) == 1
            assert (
                answers[0]
                .headers["set-cookie"]
                .startswith(f"{DEFAULT_NAME}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
            )
        assert "set-cookie" not in (await browser.get("/plain", headers=holding(new_token()))).headers


async def test_a_scripts_request_never_takes_the_cookie_away() -> None:
    """A request that was sent just before a log-in or a rotation must not delete the cookie that those have set."""
    async with running() as site, site.new_browser() as script:
        for token in (await dead_tokens(site)).values():
            assert "set-cookie" not in (await script.get("/maybe", headers=holding(token))).headers
        await site.log_in("u1")
        before = site.token
        assert before is not None
        # Both are on their way with the old cookie; the rotation's answer arrives first.
        assert (await site.browser.post("/rotate")).json() == {"rotated": True}
        late = await script.get("/me", headers=holding(before))
        assert (late.status_code, "set-cookie" in late.headers) == (401, False)
        assert await site.who() == "u1"


async def test_a_browser_without_fetch_metadata_forgets_a_dead_cookie_too() -> None:
    """S-31: over plain HTTP, or in an old browser, the cookie of an expired session goes at the first look."""
    async with running() as site, site.new_browser(Accept="*/*") as old:
        await old.post("/log-in", params={"user": "u1"})
        site.clock.advance(25 * 3600)
        assert (await old.get("/maybe")).json() == {}
        assert dict(old.cookies) == {}


async def test_an_unavailable_store_deletes_no_cookie() -> None:
    """S-72: nobody knows that the session is dead."""
    async with running() as site:
        await site.log_in()
        site.store.fail("touch")
        answer = await site.browser.get("/maybe", headers=LINK)
        assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
        assert await site.who() == "u1"


# WebSockets, and what is wrong around it


def handshake(token: str, *headers: tuple[bytes, bytes], way: str = "cookie") -> dict[str, Any]:
    """The scope of a handshake with a credential."""
    name, value = (b"cookie", f"{DEFAULT_NAME}={token}") if way == "cookie" else (b"authorization", f"Bearer {token}")
    return {"type": "websocket", "path": "/", "headers": [(name, value.encode()), *headers]}


async def test_a_handshake_with_a_cookie_needs_a_listed_origin(caplog: pytest.LogCaptureFixture) -> None:
    """S-37: without one the cookie opens nothing, and the store is not asked; a bearer may have none."""
    origin = (b"origin", b"https://app.test")
    async with running() as site:
        token, _ = await site.manager.create_session("u1")
        options = VisitorOptions(origins=Origins(["https://app.test"]))
        before = site.calls
        with caplog.at_level(logging.INFO, logger="holdfast.web"):
            for headers in ((), (origin, origin), ((b"origin", b"https://evil.test"),)):
                asking = Visitor(handshake(token, *headers), site.manager, options)
                assert await asking.session() is None
        assert "not on the list" in caplog.text
        assert token not in caplog.text
        assert site.calls == before
        for scope in (handshake(token, origin), handshake(token, way="bearer"), handshake(token, origin, way="bearer")):
            session = await Visitor(scope, site.manager, options).session()
            assert session is not None
        asking = Visitor(handshake(token, origin), site.manager, options)
        for verb in (asking.log_out, asking.rotate, lambda: asking.log_in("u2")):
            with pytest.raises(RuntimeError, match="over HTTP"):
                await verb()


@pytest.mark.parametrize(
    ("error", "status", "close"),
    [
        (StoreUnavailable("away"), 503, (1013, "unavailable")),
        (Overloaded("full"), 503, (1013, "overloaded")),
        (StoreRefused("damaged"), 500, (1011, "internal")),
        (NoSession(), 401, (3000, "unauthenticated")),
        (CrossSite(), 403, (3003, "forbidden")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_what_a_handshake_gets_for_an_error(
    error: Exception, status: int, close: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    """S-72: the HTTP interface's answer where the server can send one, otherwise a close before the accept; a log."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Visitor.of(scope).session()

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async with running() as site:
        token, _ = await site.manager.create_session("u1")
        around = HoldfastMiddleware(app, site.manager)
        for extension in ("websocket.http.response", ""):
            caplog.clear()
            site.store.fail("touch", error=error)
            scope = {**handshake(token, way="bearer"), "extensions": {extension: {}}}
            await around(scope, receive, send)
            if extension:
                assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", status)
            else:
                assert sent == [{"type": "websocket.close", "code": close[0], "reason": close[1]}]
            assert (f"{type(error).__name__}: {error}" in caplog.text) is (status >= 500)
            sent.clear()


async def test_the_guard_runs_the_application() -> None:
    """`sockets.run` decides what the application receives and sends, after its visitor is in the scope."""

    class Guard:
        async def run(self, app: Any, scope: Any, receive: Any, send: Any) -> None:
            assert isinstance(Visitor.of(scope), Visitor)

            async def guarded() -> Any:
                return {**await receive(), "guarded": True}

            await app(scope, guarded, send)

    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send({"type": "websocket.accept"})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        seen.append(message)

    around = HoldfastMiddleware(app, SessionManager(MemoryStore()), sockets=Guard())
    await around({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert seen == [{"type": "websocket.connect", "guarded": True}, {"type": "websocket.accept"}]


async def test_a_request_leaves_no_garbage() -> None:
    """The visitor is gone with its request: there is no cycle that only the garbage collector would find."""
    seen: list[weakref.ref[Visitor]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asking = Visitor.of(scope)
        seen.append(weakref.ref(asking))
        await asking.session()
        await Response()(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        pass

    async with running() as site:
        token, _ = await site.manager.create_session("u1")
        around = HoldfastMiddleware(app, site.manager)
        gc.disable()
        try:
            await around({**handshake(token), "type": "http", "method": "GET"}, receive, send)
            assert seen[0]() is None
        finally:
            gc.enable()


async def test_without_the_middleware_there_is_a_clear_error() -> None:
    """It says what is missing."""
    with pytest.raises(RuntimeError, match="put HoldfastMiddleware around the application"):
        Visitor.of({"type": "http", "headers": []})


@pytest.mark.parametrize("clear", ["cache", ["cookie"], [""]])
def test_what_no_browser_can_clear_is_refused(clear: Any) -> None:
    """S-35: a wrong word, or one string for a list."""
    with pytest.raises(InvalidArgument, match="clear_site_data"):
        VisitorOptions(clear_site_data=clear)


def test_a_visitor_shows_no_token() -> None:
    """S-10: its text form says how the credential came, and no more."""
    token = new_token()
    asking = Visitor(handshake(token), SessionManager(MemoryStore()), VisitorOptions(cookie=CookieOptions()))
    assert token not in repr(asking)
    assert repr(asking) == "Visitor(way='cookie')"
