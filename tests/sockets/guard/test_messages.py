"""What happens to one message of a client's: it is validated, checked and counted before the application sees it."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from holdfast import Overloaded, Session, StoreUnavailable
from holdfast.sessions.watches import FRESH_SECONDS
from holdfast.sockets.guard_options import Authorize, GuardOptions
from tests.sockets.guard.site import ALLOWED, Site, ending, site
from tests.support.polling import eventually


def options(**changes: Any) -> GuardOptions:
    """The usual ones, changed."""
    return GuardOptions(origins=ALLOWED, **changes)


async def count_of(served: Site, id: str) -> int:
    """How often the session was validated."""
    session = await served.manager.get_by_id(id)
    assert session is not None
    return session.request_count


async def test_each_message_is_counted_exactly_once_and_joined() -> None:
    """S-46: many sockets of one session and many messages: the count is exact, with the calls joined by the store."""
    async with site(options(message_burst=1000)) as served:
        new = await served.manager.create_session("u1")
        clients = [await served.connect(token=new.token).__aenter__() for _ in range(10)]

        async def talk(number: int) -> None:
            for _ in range(50):
                await clients[number].send("hello")
            for _ in range(50):
                await clients[number].recv()

        await asyncio.gather(*(talk(number) for number in range(10)))
        assert await count_of(served, new.id) == 10 + 10 * 50
        for client in clients:
            await client.close()


async def test_a_message_to_a_dead_session_does_not_pass() -> None:
    """S-44: even when nobody has told this process yet, the message itself finds out, and closes the socket."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send("alive")
            await client.recv()
            # Behind the manager's back, as another server would; the store has no channel to tell.
            assert await served.store.store.end(UUID(new.id), "revoked") is not None
            await client.send("dead")
            assert await ending(client) == (4403, "revoked", [])
        assert served.passed == ["alive"]


async def test_an_interval_saves_validates() -> None:
    """With an interval one validate suffices for that long, and an end still closes the socket at once."""
    async with site(options(validate_every=3600.0)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            for _ in range(20):
                await client.send("hello")
                await client.recv()
            assert await count_of(served, new.id) == 1
            await served.manager.end_session(new.id)
            assert await ending(client) == (4403, "revoked", [])


async def test_an_interval_never_lets_a_talking_client_idle_out() -> None:
    """An interval longer than half the idle timeout counts as that half: who talks all the time is active."""
    # So long that a busy machine's stall is no break: half of it stays for one.
    idle = 3.0
    async with site(options(validate_every=3600.0), idle_timeout=idle) as served:
        longest = idle
        # A client that the machine held for longer than that half did not talk all the time: another one does.
        while longest >= idle / 2:
            new = await served.manager.create_session("u1")
            async with served.connect(token=new.token) as client:
                took, longest = await talk(client, 1.8 * idle)
                counted = await count_of(served, new.id) if longest < idle / 2 else 0
        assert took >= 1.8 * idle, "it was closed"
        assert 3 <= counted <= 1 + 2 * took / idle


async def talk(client: ClientConnection, seconds: float) -> tuple[float, float]:
    """Talk all the time, below the rate, until the close: for how long, and the longest break there was."""
    began = last = time.monotonic()
    longest = 0.0
    with suppress(ConnectionClosed):
        while last - began < seconds:
            await client.send("hello")
            await client.recv()
            # No waiting for something: the pace of a client.
            await asyncio.sleep(0.06)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return last - began, max(longest, time.monotonic() - last)


async def test_a_receive_that_is_cancelled_loses_no_message_and_counts_none_twice() -> None:
    """An endpoint that waits with a time limit gets the message at its next receive, examined once."""
    got: list[str] = []

    async def impatient(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            try:
                async with asyncio.timeout(0.02):
                    got.append(await websocket.receive_text())
            except TimeoutError:
                await websocket.send_text("still waiting")
            except WebSocketDisconnect:
                return

    async with site(prepare=lambda made: made.handle("/impatient", impatient)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/impatient", token=new.token) as client:
            fault = served.store.stall("touch")
            await client.send("precious")
            await fault.arrived.wait()
            for _ in range(3):
                assert await client.recv() == "still waiting"
            assert got == []
            fault.release()
            await eventually(lambda: got == ["precious"], what="the message arrives")
            assert await count_of(served, new.id) == 2


async def test_a_message_waits_for_the_store_and_then_the_socket_closes() -> None:
    """S-72: with the store away a message waits for its deadline, and then the client is told to come back."""
    for error, reason in ((StoreUnavailable("away"), "unavailable"), (Overloaded("too many"), "overloaded")):
        async with site() as served:
            new = await served.manager.create_session("u1")
            async with served.connect(token=new.token) as client:
                served.store.fail("touch", error=error)
                await client.send("hello")
                assert await ending(client) == (1013, reason, [])
            assert served.passed == []


async def test_after_an_unknown_outcome_the_session_is_asked_for_once() -> None:
    """A validate whose answer was lost is not repeated, so nothing is counted twice; the message passes."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            served.store.lose("touch")
            await client.send("hello")
            assert await client.recv() == f"{new.id} hello"
            assert served.store.calls["touch"] == 2
            assert await count_of(served, new.id) == 2
            served.store.lose("touch")
            served.store.fail("get")
            await client.send("again")
            assert await ending(client) == (1013, "unavailable", [])


async def test_idle_sockets_stay_while_the_store_is_away() -> None:
    """An outage closes nothing that does not need the store; what is sent afterwards passes again."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await eventually(lambda: served.store.calls["standing"] > 0, what="the session was looked at")
            looks = served.store.calls["standing"]
            for each in range(1, 6):
                served.store.fail("standing", at=each)
            for _ in range(5):
                await served.clock.until_sleeping()
                served.clock.advance(6)
            await eventually(lambda: served.store.calls["standing"] > looks, what="a look failed")
            await (await client.ping())
            await client.send("here again")
            assert await client.recv() == f"{new.id} here again"


async def test_a_process_that_cannot_ask_delivers_nothing() -> None:
    """S-72, F-30: once what is known is too old, the application's messages wait for the store, and none passes."""
    deliver = asyncio.Event()

    async def push(websocket: WebSocket) -> None:
        await websocket.accept()
        await deliver.wait()
        with suppress(WebSocketDisconnect):
            await websocket.send_text("a secret")

    async with site(prepare=lambda made: made.handle("/push", push)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/push", token=new.token) as client:
            await eventually(lambda: served.store.calls["standing"] > 0, what="the session was looked at")
            for each in range(1, 50):
                served.store.fail("standing", at=each)
            # As after a long freeze: the last answer about the session is too old to be believed.
            for attended in served.manager.watches._attended.values():
                attended.confirmed -= FRESH_SECONDS + 1
            deliver.set()
            assert await ending(client) == (1013, "unavailable", [])


def no_shouting(session: Session, message: str | bytes) -> bool:
    """Whether it is not in upper case."""
    assert session.user_id == "u1"
    return not str(message).isupper()


async def later(session: Session, message: str | bytes) -> bool:
    """The same, after a turn of the loop."""
    await asyncio.sleep(0)
    return no_shouting(session, message)


def broken(_: Session, __: str | bytes) -> bool:
    """A check with a bug."""
    raise KeyError("a secret")


@pytest.mark.parametrize("check", [no_shouting, later])
async def test_each_message_is_authorized(check: Authorize) -> None:
    """S-45: a check that says no closes the socket, and the message never reaches the application."""
    async with site(options(authorize=check)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send("hello")
            assert await client.recv() == f"{new.id} hello"
            await client.send("HELLO")
            assert await ending(client) == (1008, "refused", [])
        assert served.passed == ["hello"]


async def test_a_check_that_fails_lets_nothing_pass(caplog: pytest.LogCaptureFixture) -> None:
    """S-45: a hook that raises closes the socket; its error is for the log, not for the client."""
    async with site(options(authorize=broken)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send("hello")
            assert await ending(client) == (1011, "internal", [])
        assert served.passed == []
    assert "a secret" in caplog.text


async def test_the_client_is_warned_before_the_session_runs_out() -> None:
    """One frame, so long before the expiry, with the time; again after an extension."""
    async with site(options(warn_before=600.0), session_ttl_hours=1) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            # The watches sleep, and so does the notice.
            await served.clock.until_sleeping(2)
            served.clock.advance(3001)
            frame = json.loads(await client.recv())
            assert frame == {"holdfast": "expiring", "expires_at": frame["expires_at"]}
            assert datetime.fromisoformat(frame["expires_at"]) == new.expires_at
            await served.clock.until_sleeping(2)
            await served.manager.extend_session(new.token, 2)
            served.clock.advance(600)
            await served.clock.until_sleeping(2)
            served.clock.advance(7200 - 600 - 599)
            frame = json.loads(await client.recv())
            assert datetime.fromisoformat(frame["expires_at"]) - new.expires_at > timedelta(hours=1)


async def test_warnings_share_the_statements_of_the_watches() -> None:
    """Many sockets are warned at one time, and for that each of their sessions is only looked at with all others."""
    async with site(options(warn_before=600.0), session_ttl_hours=1) as served, AsyncExitStack() as stack:
        news = [await served.manager.create_session(f"u{each}") for each in range(20)]
        clients = [await stack.enter_async_context(served.connect(token=new.token)) for new in news]
        await served.clock.until_sleeping(1 + len(clients))
        before = served.store.calls.copy()
        served.clock.advance(3001)
        for client in clients:
            assert "expiring" in str(await client.recv())
        asked = served.store.calls - before
        assert set(asked) == {"standing"}
        assert asked["standing"] < 5


async def test_a_client_may_extend_where_that_is_allowed() -> None:
    """The request never reaches the application; the answer says when the session now expires."""
    async with site(options(allow_extend=True, extend_hours=48.0)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send('{"holdfast":"extend"}')
            frame = json.loads(await client.recv())
            assert frame["holdfast"] == "extended"
            extended = await served.manager.get_by_id(new.id)
            assert extended is not None
            assert datetime.fromisoformat(frame["expires_at"]) == extended.expires_at
            assert extended.expires_at - new.expires_at > timedelta(hours=23)
            served.store.lose("extend")
            await client.send('{ "holdfast": "extend" }')
            assert json.loads(await client.recv())["holdfast"] == "extended"
            await client.send('{"holdfast": "extend", "hours": 9000}')
            assert await client.recv() == new.id + ' {"holdfast": "extend", "hours": 9000}'
            served.store.fail("extend")
            await client.send('{"holdfast":"extend"}')
            assert await ending(client) == (1013, "unavailable", [])
        assert served.passed == ['{"holdfast": "extend", "hours": 9000}']


async def test_extending_is_off_by_default() -> None:
    """Without the option the request is a message like any other."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send('{"holdfast":"extend"}')
            assert await client.recv() == new.id + ' {"holdfast":"extend"}'
            unchanged = await served.manager.get_by_id(new.id)
            assert unchanged is not None
            assert unchanged.expires_at == new.expires_at
