"""Guarded sockets close when their session is over, with a code that says why, and deliver nothing after that."""

import asyncio
from itertools import count
from typing import Any

import pytest
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection

from holdfast.sessions.session import EndReason
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.guarded_socket import GuardedSocket
from tests.sockets.guard.blocking import block
from tests.sockets.guard.site import ALLOWED, Handler, Site, ending, nothing_left, refusal, site
from tests.support.polling import eventually


async def test_a_socket_echoes_while_its_session_lives() -> None:
    """A guarded endpoint is an ordinary FastAPI endpoint; each message is one activity of the session."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            for number in range(3):
                await client.send(f"hello {number}")
                assert await client.recv() == f"{new.id} hello {number}"
        session = await served.manager.get_by_id(new.id)
        assert session is not None
        # The handshake and three messages.
        assert session.request_count == 4
        await nothing_left(served)
        assert served.counts.closed == [1000]


@pytest.mark.parametrize(("reason", "code"), [("expired", 4401), ("idle", 4401), ("revoked", 4403), ("evicted", 4409)])
async def test_the_code_says_why(reason: EndReason, code: int) -> None:
    """S-44, S-50: an idle socket closes when its session ends, and code and reason are fixed words."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(cookie=new.token) as client:
            await served.manager.end_session(new.id, reason)
            assert await ending(client) == (code, reason, [])
        await nothing_left(served)
        assert served.counts.closed == [code]


async def test_an_idle_socket_closes_at_the_expiry() -> None:
    """S-43: with no traffic at all, when the session's time has come and not before."""
    async with site(session_ttl_hours=1) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await served.clock.until_sleeping()
            served.clock.advance(3500)
            await client.send("still here")
            assert await client.recv() == f"{new.id} still here"
            await served.clock.until_sleeping()
            served.clock.advance(101)
            assert await ending(client) == (4401, "expired", [])


async def test_only_messages_keep_a_session_from_idling_out() -> None:
    """S-46: pings are answered by the server beneath, and are no activity of the session; a message is."""
    async with site(idle_timeout=60) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token, ping_interval=None) as client:
            for _ in range(3):
                await served.clock.until_sleeping()
                served.clock.advance(50)
                await client.send("busy")
                await client.recv()
            before = served.store.calls["touch"]
            for _ in range(20):
                await (await client.ping())
            assert served.store.calls["touch"] == before
            await served.clock.until_sleeping()
            served.clock.advance(61)
            assert await ending(client) == (4401, "idle", [])


async def test_an_extension_moves_the_close() -> None:
    """S-43: a session that is extended meanwhile keeps its socket past the first expiry."""
    async with site(session_ttl_hours=1) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await served.manager.extend_session(new.token, 3)
            await served.clock.until_sleeping()
            served.clock.advance(3700)
            await client.send("later")
            assert await client.recv() == f"{new.id} later"


async def test_rotation_leaves_the_socket_open() -> None:
    """The socket holds the session, not the token: a new token changes nothing for it."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            assert await served.manager.rotate_session(new.token) is not None
            await client.send("as before")
            assert await client.recv() == f"{new.id} as before"
        assert (await refusal(served.connect(token=new.token))).status_code == 401


async def test_disabling_a_user_ends_all_sockets() -> None:
    """S-22: one call ends every session of a user and closes every socket; nobody else's."""
    async with site() as served:
        mine = [await served.manager.create_session("u1") for _ in range(3)]
        other = await served.manager.create_session("u2")
        async with served.connect(token=other.token) as bystander:
            clients = [await served.connect(token=new.token).__aenter__() for new in mine]
            assert await served.manager.revoke_user_sessions("u1") == 3
            assert [await ending(client) for client in clients] == [(4403, "revoked", [])] * 3
            for new in mine:
                assert (await refusal(served.connect(token=new.token))).status_code == 401
            await bystander.send("I stay")
            assert await bystander.recv() == f"{other.id} I stay"


async def test_the_device_that_makes_room_is_closed() -> None:
    """At the cap the oldest session is evicted, and its socket says so."""
    async with site(max_sessions_per_user=1, at_cap="evict") as served:
        old = await served.manager.create_session("u1")
        async with served.connect(token=old.token) as client:
            await served.manager.create_session("u1")
            assert await ending(client) == (4409, "evicted", [])


async def test_an_end_between_handshake_and_acceptance_is_told() -> None:
    """S-44: a session that ends before the application accepts closes the socket with its code, and no data."""
    ready, go = asyncio.Event(), asyncio.Event()

    async def slow(websocket: WebSocket) -> None:
        ready.set()
        await go.wait()
        await websocket.accept()
        await websocket.send_text("a secret")

    async with site(prepare=lambda made: made.handle("/slow", slow)) as served:
        new = await served.manager.create_session("u1")
        opening = asyncio.ensure_future(served.connect("/slow", token=new.token).__aenter__())
        await ready.wait()
        await served.manager.end_session(new.id)
        await eventually(lambda: len(served.manager.watches) == 0, what="the end has arrived")
        go.set()
        assert await ending(await opening) == (4403, "revoked", [])
        await nothing_left(served)


async def close_it(websocket: WebSocket) -> None:
    """Refuse a handshake as ASGI's own message does."""
    await websocket.close()


async def answer_it(websocket: WebSocket) -> None:
    """Refuse a handshake with an HTTP answer, in two messages."""
    await websocket.send_denial_response(Response("no", 418))


async def leave_it(websocket: WebSocket) -> None:
    """Say nothing at all."""


@pytest.mark.parametrize("refuses", [close_it, answer_it, leave_it])
@pytest.mark.parametrize("browser_codes", [False, True])
async def test_an_end_before_the_applications_own_refusal_is_told(
    refuses: Handler, browser_codes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """S-44: a handshake that is never accepted, because its session ends first, is refused once, and not with a 500."""
    ready, go = asyncio.Event(), asyncio.Event()

    async def slow(websocket: WebSocket) -> None:
        ready.set()
        await go.wait()
        await refuses(websocket)

    options = GuardOptions(origins=ALLOWED, browser_codes=browser_codes)
    async with site(options, prepare=lambda made: made.handle("/slow", slow)) as served:
        new = await served.manager.create_session("u1")
        opening = served.connect("/slow", token=new.token)
        answer: asyncio.Future[Any] = asyncio.ensure_future(opening.__aenter__() if browser_codes else refusal(opening))
        await ready.wait()
        await served.manager.end_session(new.id)
        await eventually(lambda: len(served.manager.watches) == 0, what="the end has arrived")
        go.set()
        outcome = await answer
        if isinstance(outcome, ClientConnection):
            assert await ending(outcome) == (4403, "revoked", [])
        else:
            assert outcome.status_code == 401
        await nothing_left(served)
        assert served.counts.closed == [4403]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_http_refusal_that_has_begun_is_finished() -> None:
    """An end between the head and the body of the application's own answer does not cut it in two."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(websocket: WebSocket) -> None:
        await websocket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        begun.set()
        await go.wait()
        await websocket.send({"type": "websocket.http.response.body", "body": b"no"})

    async with site(prepare=lambda made: made.handle("/slow", slow)) as served:
        new = await served.manager.create_session("u1")
        answer = asyncio.ensure_future(refusal(served.connect("/slow", token=new.token)))
        await begun.wait()
        await served.manager.end_session(new.id)
        await eventually(lambda: len(served.manager.watches) == 0, what="the end has arrived")
        go.set()
        assert (await answer).status_code == 418
        await nothing_left(served)


async def test_nothing_is_delivered_after_the_decision() -> None:
    """S-44: of a stream that is under way nothing reaches the client once the session's end is known here."""
    sent: list[int] = []
    refused: list[BaseException] = []

    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        for number in count():
            try:
                await websocket.send_text(str(number))
            except WebSocketDisconnect as error:
                refused.append(error)
                raise
            sent.append(number)
            await asyncio.sleep(0)

    async with site(prepare=lambda made: made.handle("/stream", stream)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/stream", token=new.token) as client:
            for _ in range(50):
                await client.recv()
            ended = asyncio.ensure_future(served.manager.end_session(new.id))
            code, reason, received = await ending(client)
            assert await ended
            assert (code, reason) == (4403, "revoked")
            # The last thing received is the last thing that the application was told was sent.
            assert int(received[-1]) == sent[-1]
            assert len(refused) == 1


async def test_a_message_that_waits_to_be_sent_is_taken_back() -> None:
    """S-44: a send that the client holds up at the moment of the decision is not sent when the client reads on."""
    blocked = asyncio.Event()
    sent: list[int] = []
    outcomes: list[str] = []
    sockets: list[GuardedSocket] = []

    async def flood(websocket: WebSocket) -> None:
        await websocket.accept()
        sockets.append(GuardedSocket.of(websocket.scope))
        try:
            for number in count():
                sending = asyncio.ensure_future(websocket.send_text(f"{number} " + "x" * 60_000))
                done, _ = await asyncio.wait((sending,), timeout=1.0)
                if not done:
                    blocked.set()
                await sending
                sent.append(number)
        except WebSocketDisconnect:
            outcomes.append("refused")

    async with site(prepare=lambda made: made.handle("/flood", flood)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/flood", token=new.token, max_queue=1) as client:
            await blocked.wait()
            await served.manager.end_session(new.id)
            await eventually(lambda: sockets[0].closing is not None, what="the decision")
            before = list(sent)
            # It reads on at once, so that the close frame finds room before the connection is dropped.
            code, reason, received = await ending(client)
            assert (code, reason) == (4403, "revoked")
            assert [int(str(text).partition(" ")[0]) for text in received] == before
            assert outcomes == ["refused"]
        await nothing_left(served)


async def test_the_application_hears_of_the_close_in_the_usual_way() -> None:
    """A `receive` that waits gets the disconnect with the code; a `send` afterwards raises."""
    heard: list[object] = []

    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()
        heard.append(await websocket.receive())
        try:
            await websocket.send_text("too late")
        except WebSocketDisconnect as error:
            heard.append(error.code)
        # Closing what is closed is no error.
        await websocket.close()

    async with site(prepare=lambda made: made.handle("/listen", listen)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/listen", token=new.token) as client:
            await served.manager.end_session(new.id)
            assert await ending(client) == (4403, "revoked", [])
        await eventually(lambda: len(heard) == 2, what="the application has ended")
        assert heard == [{"type": "websocket.disconnect", "code": 4403, "reason": "revoked"}, 1006]


async def test_an_application_that_fails_or_forgets_leaves_no_socket_open(caplog: pytest.LogCaptureFixture) -> None:
    """One that returns closes with 1000, one that raises with 1011 and no word of why."""

    async def forgetful(websocket: WebSocket) -> None:
        await websocket.accept()

    async def faulty(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ValueError("a secret")

    def prepare(made: Site) -> None:
        made.handle("/forgetful", forgetful)
        made.handle("/faulty", faulty)

    async with site(prepare=prepare) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/forgetful", token=new.token) as client:
            assert await ending(client) == (1000, "", [])
        async with served.connect("/faulty", token=new.token) as client:
            assert await ending(client) == (1011, "internal", [])
        await nothing_left(served)
    assert "ValueError: a secret" in caplog.text


async def test_an_application_that_never_looks_out_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """An endpoint that lets the disconnect through is no fault, and fills no log with tracebacks."""

    async def plain(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())

    async with site(prepare=lambda made: made.handle("/plain", plain)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/plain", token=new.token) as client:
            await served.manager.end_session(new.id)
            assert (await ending(client))[0] == 4403
        refused = await served.manager.create_session("u1")
        async with served.connect("/plain", token=refused.token) as client:
            await client.close()
        await refusal(served.connect("/plain"))
        await nothing_left(served)
    assert [record.getMessage() for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


async def test_the_applications_own_close_stands() -> None:
    """An application closes with whatever it likes, and that is what the client and the numbers see."""

    async def closing(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4000, "game over")

    async def refusing(websocket: WebSocket) -> None:
        await websocket.close()

    def prepare(made: Site) -> None:
        made.handle("/closing", closing)
        made.handle("/refusing", refusing)

    async with site(prepare=prepare) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/closing", token=new.token) as client:
            assert await ending(client) == (4000, "game over", [])
        assert (await refusal(served.connect("/refusing", token=new.token))).status_code == 403
        await nothing_left(served)
        assert served.counts.closed == [4000, 1000]


async def test_a_client_that_disappears_leaves_nothing_behind() -> None:
    """F-32: cut off without a word, in the middle of messages: no place is kept and nothing stays attached."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        clients: list[ClientConnection] = []
        for _ in range(10):
            client = await served.connect(token=new.token).__aenter__()
            await client.send("hello")
            clients.append(client)
        assert served.guard.open_sockets == 10
        for client in clients:
            client.transport.abort()
        await nothing_left(served)
        assert len(served.counts.closed) == 10


async def test_a_blocked_event_loop_is_late_and_right() -> None:
    """F-31: a process that could do nothing while the session ended closes the socket once it runs, as it must."""
    async with site(GuardOptions(origins=ALLOWED)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            ended = asyncio.ensure_future(served.manager.end_session(new.id))
            await asyncio.sleep(0)
            block(2.0)
            assert await ended
            assert await ending(client) == (4403, "revoked", [])
