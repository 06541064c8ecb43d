"""`websocket.session`: read at the handshake, saved when the socket is accepted and when it closes."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from holdfast import InvalidArgument, OutcomeUnknown, Overloaded, StoreOptions, StoreRefused, StoreUnavailable
from holdfast.memory import MemoryStore
from holdfast.sessions.manager import SessionManager
from holdfast.web.origins import Origins
from holdfast.web.session_middleware import SessionMiddleware
from tests.web.keeping import ALL_KINDS, COOKIE, KINDS, Browser, Keeping, Places, keeping

DENIAL: dict[str, Any] = {"websocket.http.response": {}}


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


@pytest.fixture(params=ALL_KINDS)
def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn, with one connection beside those of the joined calls."""
    return Places(request.param, request, tmp_path, StoreOptions(deadline=30.0, connections=1))


class Socket:
    """A client's end of a WebSocket, without a network."""

    def __init__(self, app: ASGIApp, steps: list[list[Any]], browser: Browser | None, **more: Any) -> None:
        """`steps` are what the application does before anything comes from the client."""
        token = None if browser is None else browser.token
        self.scope: Scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "wss",
            "path": "/socket",
            "raw_path": b"/socket",
            "query_string": b"",
            "steps": steps,
            "root_path": "",
            "headers": [] if token is None else [(b"cookie", f"{COOKIE}={token}".encode())],
            "subprotocols": [],
            "extensions": {},
            **more,
        }
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(_running(app(self.scope, self._to_app.get, self._from_app.put)))

    async def next(self) -> Message:
        """The next message of the application. Raises what it raised if there is none."""
        getting = asyncio.create_task(self._from_app.get())
        await asyncio.wait((getting, self.task), return_when=asyncio.FIRST_COMPLETED)
        if not getting.done() and self._from_app.empty():
            getting.cancel()
            self.task.result()
            raise EOFError("the application has ended and sent nothing")
        return await getting

    async def do(self, *steps: list[Any]) -> dict[str, Any]:
        """Have the application do something with the session of this open socket, and answer with it."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": json.dumps(steps)})
        message = await self.next()
        assert message["type"] == "websocket.send", message
        values: dict[str, Any] = json.loads(message["text"])
        return values

    def tell(self, *steps: list[Any]) -> None:
        """The same for what has no answer."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": json.dumps(steps)})

    async def leave(self) -> None:
        """Go away, and wait until the application has ended; what it raised is raised here."""
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await self.task


async def _running(application: Awaitable[None]) -> None:
    await application


def cookies(message: Message) -> list[bytes]:
    """The `Set-Cookie` headers of a message."""
    return [value for name, value in message["headers"] if name == b"set-cookie"]


@asynccontextmanager
async def serving(places: Places, **options: Any) -> AsyncIterator[Keeping]:
    """The application with a socket that does what it is told, and learns of leaving by an error, as most do."""
    sites: list[Keeping] = []

    async def run(websocket: WebSocket, steps: list[list[Any]]) -> bool:
        session = websocket.session
        for name, *arguments in steps:
            match name:
                case "accept":
                    await websocket.accept()
                case "close":
                    await websocket.close(4000)
                case "deny":
                    await websocket.send_denial_response(PlainTextResponse("no", 403))
                case "return":
                    return False
                case _:
                    await sites[0].step(session, name, arguments)
        return websocket.application_state is WebSocketState.CONNECTED

    async def socket(websocket: WebSocket) -> None:
        sites[0].ran += 1
        going_on = await run(websocket, websocket.scope["steps"])
        while going_on:
            going_on = await run(websocket, await websocket.receive_json())
            if going_on:
                await websocket.send_json(dict(websocket.session))

    async with keeping(places, WebSocketRoute("/socket", socket), **options) as site:
        sites.append(site)
        yield site


async def opened(site: Keeping, browser: Browser | None, *steps: list[Any]) -> tuple[Socket, Message]:
    """An accepted socket, after the steps; and the message that accepted it."""
    socket = Socket(site.app, [*steps, ["accept"]], browser)
    message = await socket.next()
    assert message["type"] == "websocket.accept", message
    return socket, message


async def test_it_is_read_at_the_handshake(places: Places) -> None:
    """One activity for each socket, and no cookie for one that changes nothing."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        socket, accepted = await opened(site, browser)
        assert await socket.do(["read"]) == {"user_id": "u1"}
        assert cookies(accepted) == []
        session = await site.session(browser)
        assert session is not None
        assert session.request_count == 1
        calls = site.calls
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert site.calls == calls


async def test_a_visitor_without_a_session(places: Places) -> None:
    """The handshake of one who has none asks no store."""
    async with serving(places) as site:
        socket, accepted = await opened(site, None)
        assert await socket.do(["read"]) == {}
        assert cookies(accepted) == []
        assert site.calls == 0


async def test_what_is_put_in_before_accepting(places: Places) -> None:
    """It begins a session, whose cookie is in the handshake's answer."""
    async with serving(places) as site:
        socket, accepted = await opened(site, None, ["set", "a", 1])
        (cookie,) = cookies(accepted)
        browser = site.browser()
        browser.token = cookie.decode().partition("=")[2].partition(";")[0]
        assert await browser.read() == {"a": 1}
        await socket.do(["set", "b", 2])
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await browser.read() == {"a": 1, "b": 2}


async def test_what_is_changed_before_accepting(places: Places) -> None:
    """It is merged, and the browser keeps its cookie for longer, as after a request."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, accepted = await opened(site, browser, ["set", "b", 2])
        assert await browser.read() == {"a": 1, "b": 2}
        (cookie,) = cookies(accepted)
        assert f"{COOKIE}={browser.token};".encode() in cookie
        assert await socket.do(["read"]) == {"a": 1, "b": 2}
        calls = site.calls
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        # Nothing has changed since.
        assert site.calls == calls


@pytest.mark.parametrize("how", ["leave", "return", "close"])
async def test_what_is_changed_in_the_open_socket(places: Places, how: str) -> None:
    """It is saved by key when the socket closes, whoever closes it; others' keys of that time stay."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["update", {"a": 1, "gone": 1}])
        socket, _ = await opened(site, browser)
        await socket.do(["set", "b", 2], ["pop", "gone"])
        await browser.do(["set", "c", 3])
        assert await browser.read() == {"a": 1, "c": 3, "gone": 1}
        if how == "leave":
            with pytest.raises(WebSocketDisconnect):
                await socket.leave()
        else:
            socket.tell([how])
            await socket.task
        assert await browser.read() == {"a": 1, "b": 2, "c": 3}


async def test_what_was_saved_at_the_accept_is_not_saved_again(places: Places) -> None:
    """Another request may have changed it since: at the close it is the socket's later changes that count."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, _ = await opened(site, browser, ["set", "b", "of the handshake"])
        await browser.do(["set", "b", "of a request"])
        await socket.do(["set", "c", "of the socket"])
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await browser.read() == {"a": 1, "b": "of a request", "c": "of the socket"}


async def test_a_new_token_at_the_accept(places: Places) -> None:
    """The socket goes on with the new session (S-13)."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, accepted = await opened(site, browser, ["clear"], ["set", "user_id", "u1"])
        (cookie,) = cookies(accepted)
        browser.token = cookie.decode().partition("=")[2].partition(";")[0]
        await socket.do(["set", "b", 2])
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await browser.read() == {"user_id": "u1", "b": 2}
        assert len(await site.live()) == 1


async def test_the_close_comes_after_the_save(places: Places) -> None:
    """A client that sees its socket closed finds in its next request what the socket has left."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, _ = await opened(site, browser)
        stalled = site.store.stall("set_metadata")
        socket.tell(["set", "b", 2], ["close"])
        await stalled.arrived.wait()
        closing = asyncio.create_task(socket.next())
        assert await browser.read() == {"a": 1}
        assert not closing.done()
        stalled.release()
        assert (await closing)["type"] == "websocket.close"
        assert await browser.read() == {"a": 1, "b": 2}


async def test_a_handler_that_crashes(places: Places) -> None:
    """It loses what it has put in since the handshake, as a request does."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, _ = await opened(site, browser, ["set", "b", 2])
        socket.tell(["set", "c", 3], ["crash"])
        with pytest.raises(LookupError):
            await socket.task
        assert await browser.read() == {"a": 1, "b": 2}


async def test_a_long_open_socket_begins_the_time_anew(places: Places) -> None:
    """Its save counts from when it is made, not from the handshake."""
    async with serving(places, max_age=48 * 3600) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, _ = await opened(site, browser)
        await socket.do(["set", "b", 2])
        site.clock.advance(24 * 3600)
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        site.clock.advance(47 * 3600)
        assert await browser.read() == {"a": 1, "b": 2}


async def test_and_with_a_short_max_age(places: Places) -> None:
    """The same where the save has to be noted."""
    async with serving(places, max_age=3600) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, _ = await opened(site, browser)
        await socket.do(["set", "b", 2])
        site.clock.advance(3000)
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        site.clock.advance(3000)
        again = site.browser(browser)
        assert await again.read() == {"a": 1, "b": 2}


# Ends


async def test_clearing_in_the_open_socket(places: Places) -> None:
    """The session ends with the socket; the cookie opens nothing any more."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        socket, _ = await opened(site, browser)
        socket.tell(["clear"], ["close"])
        await socket.task
        assert await site.live() == []
        assert await browser.read() == {}


async def test_clearing_before_accepting(places: Places) -> None:
    """The session ends, and the answer takes the cookie."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        _, accepted = await opened(site, browser, ["clear"])
        assert cookies(accepted)[0].startswith(b"session=null;")
        assert await site.live() == []


async def test_a_session_that_ended_meanwhile(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """What the socket would save late is dropped (S-19)."""
    caplog.set_level(logging.DEBUG, "holdfast.web")
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        session = await site.session(browser)
        assert session is not None
        socket, _ = await opened(site, browser)
        await socket.do(["set", "b", 2])
        await browser.do(["clear"])
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await site.live() == []
    assert f"session {session.id} was over" in caplog.text


async def test_a_session_that_ended_before_accepting(places: Places) -> None:
    """Nothing begins later in its place either (S-19)."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        socket = Socket(site.app, [["hold", "slow"], ["set", "b", 2], ["accept"]], browser)
        await site.gates["slow"].arrived.wait()
        await site.manager.revoke_user_sessions("u1")
        site.gates["slow"].opened.set()
        assert cookies(await socket.next())[0].startswith(b"session=null;")
        await socket.do(["set", "c", 3])
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await site.live() == []


# What an open socket cannot do


async def test_no_session_begins_in_an_open_socket(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """There is no answer left to give a cookie with: the log says what is lost."""
    async with serving(places) as site:
        socket, _ = await opened(site, None)
        await socket.do(["set", "a", 1])
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await site.live() == []
    assert "an open socket can begin no session" in caplog.text


@pytest.mark.parametrize(
    ("steps", "user"),
    [
        ([["set", "user_id", "u2"], ["set", "b", 2]], "u1"),
        ([["pop", "user_id"]], None),
        ([["clear"], ["set", "user_id", "u1"]], None),
    ],
    ids=["log in", "log out", "clear and set"],
)
async def test_no_token_changes_in_an_open_socket(
    places: Places, steps: list[list[Any]], user: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A log-in there is dropped; whatever would leave the session ends it (S-13)."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["update", {"user_id": "u1", "a": 1}])
        socket, _ = await opened(site, browser)
        await socket.do(*steps)
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert [each.user_id for each in await site.live()] == ([] if user is None else [user])
        assert await browser.read() == ({} if user is None else {"user_id": "u1", "a": 1})
    assert "an open socket can begin no session" in caplog.text


# Refusals and failures


@pytest.mark.parametrize(
    ("origins", "counts"),
    [(["https://app.example.com"], True), (["https://evil.example"], False), (["null"], False), ([], False)],
)
async def test_a_handshake_with_a_list_of_origins(places: Places, origins: list[str], counts: bool) -> None:
    """From another's page it is that of a visitor without a session, and asks no store (S-37)."""
    async with serving(places, origins=Origins(["https://app.example.com"])) as site:
        browser = site.browser()
        await browser.do(["set", "user_id", "u1"])
        calls = site.calls
        headers = [(b"cookie", f"{COOKIE}={browser.token}".encode()), *((b"origin", each.encode()) for each in origins)]
        socket = Socket(site.app, [["accept"]], None, headers=headers)
        await socket.next()
        assert await socket.do(["read"]) == ({"user_id": "u1"} if counts else {})
        assert site.calls == calls + counts


async def test_a_handshake_without_a_list_of_origins(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """Any page's counts, as with Starlette; the first that a browser sends with a cookie is warned of (S-37)."""

    def warnings() -> int:
        return sum("from any page" in record.getMessage() for record in caplog.records)

    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        cookie, origin = (b"cookie", f"{COOKIE}={browser.token}".encode()), (b"origin", b"https://evil.example")
        for headers, expected in (([cookie], 0), ([origin], 0), ([cookie, origin], 1), ([cookie, origin], 1)):
            socket = Socket(site.app, [["accept"]], None, headers=headers)
            await socket.next()
            assert await socket.do(["read"]) == ({"a": 1} if cookie in headers else {})
            assert warnings() == expected
    (record,) = [each for each in caplog.records if "from any page" in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert "origins=Origins([" in record.getMessage()
    assert "evil" not in caplog.text


async def test_a_refused_handshake(places: Places) -> None:
    """Closing instead of accepting saves nothing."""
    async with serving(places) as site:
        socket = Socket(site.app, [["set", "a", 1], ["close"]], None)
        assert (await socket.next())["type"] == "websocket.close"
        await socket.task
        assert site.calls == 0


async def test_a_refusal_with_an_answer(places: Places) -> None:
    """An HTTP answer to the handshake has a head, and so it is saved as any other."""
    async with serving(places) as site:
        socket = Socket(site.app, [["set", "a", 1], ["deny"]], None, extensions=DENIAL)
        message = await socket.next()
        assert (message["type"], message["status"]) == ("websocket.http.response.start", 403)
        assert len(cookies(message)) == 1
        assert (b"vary", b"Cookie") in message["headers"]
        assert len(await site.live()) == 1


FAILURES: list[tuple[Exception, int, int]] = [
    (StoreUnavailable("away"), 503, 1013),
    (OutcomeUnknown("no answer"), 503, 1013),
    (Overloaded("full"), 503, 1013),
    (StoreRefused("damaged"), 500, 1011),
]


@pytest.mark.parametrize(("error", "status", "code"), FAILURES, ids=[type(each[0]).__name__ for each in FAILURES])
@pytest.mark.parametrize("method", ["touch", "set_metadata"])
@pytest.mark.parametrize("extensions", [{}, DENIAL], ids=["plain", "with answers"])
async def test_the_store_fails_at_the_handshake(
    places: Places, extensions: dict[str, Any], method: str, error: Exception, status: int, code: int
) -> None:
    """The socket is refused; where it is read the application does not even run (S-72)."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        ran = site.ran
        site.store.fail(method, error=error)
        socket = Socket(site.app, [["set", "a", 2], ["accept"]], browser, extensions=extensions)
        message = await socket.next()
        if extensions:
            assert (message["type"], message["status"]) == ("websocket.http.response.start", status)
        else:
            assert (message["type"], message["code"]) == ("websocket.close", code)
        await socket.task
        assert site.ran == ran + (method != "touch")
        assert await browser.read() == {"a": 1}


async def test_the_store_fails_at_the_close(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    """The socket closes all the same, and the save is tried once more."""
    async with serving(places) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket, _ = await opened(site, browser)
        site.store.fail("set_metadata")
        socket.tell(["set", "a", 2], ["close"])
        assert (await socket.next())["type"] == "websocket.close"
        await socket.task
        assert await browser.read() == {"a": 2}
        assert "tried once more" in caplog.text
        socket, _ = await opened(site, browser)
        await socket.do(["set", "a", 3])
        site.store.fail("set_metadata")
        with pytest.raises(WebSocketDisconnect):
            await socket.leave()
        assert await browser.read() == {"a": 2}
        assert "what was put into websocket.session is lost" in caplog.text


async def test_what_cannot_be_kept(places: Places) -> None:
    """Before accepting it is an error of the application, and no socket opens; later it is one when it closes."""
    async with serving(places) as site:
        site.values["value"] = object()
        browser = site.browser()
        await browser.do(["set", "a", 1])
        socket = Socket(site.app, [["put", "cart", "value"], ["accept"]], browser)
        with pytest.raises(InvalidArgument, match="cart"):
            await socket.task
        socket, _ = await opened(site, browser)
        socket.tell(["put", "cart", "value"], ["return"])
        with pytest.raises(InvalidArgument, match="cart"):
            await socket.task
        assert await browser.read() == {"a": 1}


async def test_open_sockets_hold_no_connection(narrow: Places) -> None:
    """With one connection to the database many sockets wait, changed and all, and requests go on."""
    async with serving(narrow) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        sockets = [(await opened(site, browser, ["set", f"at {number}", 1]))[0] for number in range(20)]
        for number, socket in enumerate(sockets):
            await socket.do(["set", f"in {number}", 1])
        assert len(await browser.read()) == 21
        for socket in sockets:
            with pytest.raises(WebSocketDisconnect):
                await socket.leave()
        assert len(await browser.read()) == 41


def test_through_starlettes_own_client() -> None:
    """The same from outside, with its jar of cookies and its threads."""

    async def socket(websocket: WebSocket) -> None:
        websocket.session["sockets"] = websocket.session.get("sockets", 0) + 1
        await websocket.accept()
        await websocket.send_json(websocket.session)
        websocket.session["closed"] = websocket.session["sockets"]
        await websocket.close()

    manager = SessionManager(MemoryStore(), sweep_interval=None)
    client = TestClient(SessionMiddleware(WebSocketRoute("/socket", socket), manager=manager))
    for expected in ({"sockets": 1}, {"sockets": 2, "closed": 1}, {"sockets": 3, "closed": 2}):
        with client.websocket_connect("/socket") as connection:
            assert connection.receive_json() == expected
            # The test client keeps no cookies of a handshake, as browsers do.
            client.cookies = {name: morsel.value for name, morsel in _jar(connection.extra_headers).items()}


def _jar(headers: list[tuple[bytes, bytes]] | None) -> SimpleCookie:
    return SimpleCookie("; ".join(value.decode() for name, value in headers or [] if name == b"set-cookie"))
