"""What one socket, one session, one user and one process may cost."""

import asyncio
import gc
import time
from ipaddress import ip_network
from itertools import count
from typing import Any

import psutil  # type: ignore[import-untyped]  # its types are a package of their own
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from holdfast.sessions.errors import InvalidArgument
from holdfast.sockets import wire
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.guarded_socket import GuardedSocket
from holdfast.web import closing
from holdfast.web.closing import Closing
from tests.sockets.guard.site import ALLOWED, Site, ending, refusal, site
from tests.support.polling import eventually

DROPPED = 15.0
"""Seconds within which a connection must be dropped that nothing but a keepalive would drop later, after forty."""


def options(**changes: Any) -> GuardOptions:
    """The usual ones, changed."""
    return GuardOptions(origins=ALLOWED, **changes)


@pytest.mark.parametrize("message", ["x" * 65_537, "é" * 32_769, "😀" * 16_385, b"\x00" * 65_537])
async def test_a_message_above_the_limit_closes_the_socket(message: str | bytes) -> None:
    """S-47: 64 KiB, in bytes and not in characters; the application never sees it."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send(message)
            assert await ending(client) == (1009, "too big", [])
        assert served.passed == []


@pytest.mark.parametrize("message", ["x" * 65_536, "é" * 32_768, "😀" * 16_384])
async def test_a_message_at_the_limit_passes(message: str) -> None:
    """S-47: the limit itself is allowed."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send(message)
            assert await client.recv() == f"{new.id} {message}"


async def test_a_message_in_fragments_counts_as_one() -> None:
    """S-47: the limit holds for what the fragments add up to."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send(["x" * 40_000, "y" * 40_000])
            assert await ending(client) == (1009, "too big", [])


async def test_a_socket_that_goes_on_sending_too_fast_is_closed() -> None:
    """S-47: a burst passes, then so many in a second; one that always sends more is closed after the stated time."""
    async with site(options(messages_per_second=2.0, message_burst=5, too_fast_after=1.0)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            began = time.monotonic()
            for number in range(50):
                await client.send(str(number))
            code, reason, received = await ending(client)
            assert (code, reason) == (1008, "too fast")
            took = time.monotonic() - began
            assert took > 1.0
            # The burst, and what the rate lets through in the time.
            assert 7 <= len(received) <= 6 + 2 * took
        assert served.passed == [str(number) for number in range(len(received))]


async def test_a_burst_above_the_limit_is_slowed_down() -> None:
    """S-47: messages above the rate wait for their turn, and none is lost."""
    async with site(options(messages_per_second=20.0, message_burst=5)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            began = time.monotonic()
            sent = [str(number) for number in range(15)]
            for each in sent:
                await client.send(each)
            assert [await client.recv() for _ in sent] == [f"{new.id} {each}" for each in sent]
            assert time.monotonic() - began > 0.4


async def test_what_came_while_the_application_was_busy_is_not_too_fast() -> None:
    """A client that kept to the rate is not closed because its messages are taken all at once, and late."""
    seen: list[str] = []
    go_on = asyncio.Event()

    async def busy(websocket: WebSocket) -> None:
        await websocket.accept()
        seen.append(await websocket.receive_text())
        await go_on.wait()
        seen.extend([text async for text in websocket.iter_text()])

    limits = options(messages_per_second=100.0, message_burst=1, too_fast_after=0.001)
    async with site(limits, prepare=lambda made: made.handle("/busy", busy)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/busy", token=new.token) as client:
            await client.send("0")
            for number in range(1, 100):
                await client.send(str(number))
            # So long the rate allows what has been sent already.
            asyncio.get_running_loop().call_later(1.5, go_on.set)
            await go_on.wait()
            await client.close()
            await eventually(lambda: len(seen) == 100, what="all have been seen")
            assert client.close_code == 1000


async def test_an_end_closes_a_socket_that_is_being_slowed_down() -> None:
    """Promise 6: what waits for its turn does not pass any more, and the close does not wait for it."""
    async with site(options(messages_per_second=0.01, message_burst=1)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            await client.send("passes")
            await client.recv()
            await client.send("waits")
            await served.manager.end_session(new.id)
            assert await ending(client) == (4403, "revoked", [])
        assert served.passed == ["passes"]


async def open_sockets(served: Site, number: int, **presented: Any) -> list[Any]:
    """So many sockets."""
    return [await served.connect(**presented).__aenter__() for _ in range(number)]


async def test_sockets_of_a_session_are_limited() -> None:
    """S-48: one more is refused with 429; another session's is not, and one that closes makes room."""
    async with site(options(max_per_session=3)) as served:
        one, two = await served.manager.create_session("u1"), await served.manager.create_session("u1")
        mine = await open_sockets(served, 3, token=one.token)
        response = await refusal(served.connect(token=one.token))
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        others = await open_sockets(served, 3, token=two.token)
        await mine.pop().close()
        await eventually(lambda: served.guard.open_sockets == 5, what="a place is free")
        mine += await open_sockets(served, 1, token=one.token)
        for client in (*mine, *others):
            await client.close()


async def test_sockets_of_a_user_and_an_address_are_limited() -> None:
    """S-48: a user's over all sessions; an address's whoever it is, behind a trusted proxy by what that one says."""
    async with site(options(max_per_user=4)) as served:
        sessions = [await served.manager.create_session("u1") for _ in range(5)]
        clients = [client for each in sessions[:4] for client in await open_sockets(served, 1, token=each.token)]
        assert (await refusal(served.connect(token=sessions[4].token))).status_code == 429
        stranger = await served.manager.create_session("u2")
        clients += await open_sockets(served, 1, token=stranger.token)
        anonymous = await served.manager.create_session()
        clients += await open_sockets(served, 6, token=anonymous.token)
        for client in clients:
            await client.close()
    proxied = options(max_per_address=2, trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with site(proxied) as served:
        new = await served.manager.create_session("u1")
        here, there = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
        clients = await open_sockets(served, 2, token=new.token, headers=here)
        assert (await refusal(served.connect(token=new.token, headers=here))).status_code == 429
        clients += await open_sockets(served, 2, token=new.token, headers=there)
        for client in clients:
            await client.close()


async def test_sockets_of_the_process_are_limited() -> None:
    """S-48: a full process says 503 and when to come back; in the browser-friendly mode 1013."""
    for browser in (False, True):
        async with site(options(max_sockets=3, browser_codes=browser)) as served:
            sessions = [await served.manager.create_session(f"u{each}") for each in range(4)]
            clients = [client for each in sessions[:3] for client in await open_sockets(served, 1, token=each.token)]
            if browser:
                async with served.connect(token=sessions[3].token) as client:
                    assert await ending(client) == (1013, "overloaded", [])
            else:
                response = await refusal(served.connect(token=sessions[3].token))
                assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            # Those that are there are not disturbed.
            await clients[0].send("hello")
            await clients[0].recv()
            for client in clients:
                await client.close()


async def test_a_storm_of_handshakes_is_bounded() -> None:
    """F-29, S-42: so many handshakes may wait for the store, none unauthenticated beyond; others are told at once."""
    async with site(options(max_handshakes=10)) as served:
        new = await served.manager.create_session("u1")
        faults = [served.store.stall("touch", at=each) for each in range(1, 11)]
        waiting = [asyncio.ensure_future(served.connect(token=new.token).__aenter__()) for _ in range(10)]
        for fault in faults:
            await fault.arrived.wait()
        calls = served.store.calls["touch"]
        refused = await asyncio.gather(*(refusal(served.connect(token=new.token)) for _ in range(30)))
        assert {response.status_code for response in refused} == {503}
        assert served.store.calls["touch"] == calls
        for fault in faults:
            fault.release()
        for client in await asyncio.gather(*waiting):
            await client.close()


async def test_a_reader_that_never_reads_is_cut_off_and_memory_stays_flat() -> None:
    """S-47, F-33: the application waits, holding one message; then the connection is dropped, whatever was buffered."""
    ended: list[int] = []
    all_here = asyncio.Event()

    async def flood(websocket: WebSocket) -> None:
        await websocket.accept()
        # Else the first one is cut off before the last one is here.
        await all_here.wait()
        block = b"x" * 65_536
        for number in count():
            try:
                await websocket.send_bytes(block)
            except WebSocketDisconnect:
                ended.append(number)
                return

    async with site(options(send_timeout=1.0), prepare=lambda made: made.handle("/flood", flood)) as served:
        new = await served.manager.create_session("u1")
        process = psutil.Process()
        gc.collect()
        before = process.memory_info().rss
        clients = []
        for _ in range(20):
            client = await served.connect("/flood", token=new.token, max_queue=1).__aenter__()
            # Nobody takes anything out of the kernel's buffer from now on.
            client.transport.pause_reading()
            clients.append(client)
        assert served.guard.open_sockets == 20
        all_here.set()
        await eventually(lambda: len(ended) == 20, what="all are cut off")
        await eventually(lambda: served.guard.open_sockets == 0, what="their places are free")
        # Dropped, not only closed: nothing waits for readers that never read.
        await eventually(lambda: connections(served) == 0, what="their connections are gone", deadline=DROPPED)
        grown = process.memory_info().rss - before
        assert grown < 40 * 1024 * 1024, f"{grown / 1_048_576:.0f} MiB for 20 readers that never read"
        assert served.counts.closed == [1013] * 20
        for client in clients:
            client.transport.abort()


def connections(served: Site) -> int:
    """How many connections the server's side has."""
    mine = psutil.Process().net_connections("tcp")
    return sum(each.laddr.port == served.port and each.status != psutil.CONN_LISTEN for each in mine)


async def test_a_client_that_leaves_its_close_unread_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-33: a close that fits into the server's buffer, and that the client never takes out of it."""
    monkeypatch.setattr(wire, "_LINGER_SECONDS", 0.5)
    filled = asyncio.Event()

    async def fill(websocket: WebSocket) -> None:
        await websocket.accept()
        transport = GuardedSocket.of(websocket.scope)._wire.send.__self__.transport  # type: ignore[attr-defined]  # a method of uvicorn's
        # Into the server's own buffer, but not to the mark from which on it makes everybody wait.
        while transport.get_write_buffer_size() == 0:
            await websocket.send_bytes(b"x" * 30_000)
        filled.set()
        await websocket.receive()

    async with site(prepare=lambda made: made.handle("/fill", fill)) as served:
        new = await served.manager.create_session("u1")
        client = await served.connect("/fill", token=new.token, max_queue=1).__aenter__()
        client.transport.pause_reading()
        await filled.wait()
        await served.manager.end_session(new.id)
        await eventually(lambda: served.counts.closed == [4403], what="the close is written")
        await eventually(lambda: connections(served) == 0, what="the connection is gone", deadline=DROPPED)
        client.transport.abort()


async def test_only_so_many_messages_wait_for_a_slow_reader() -> None:
    """S-47: an application that does not wait for its sends is stopped by their number, not by the memory."""
    outcomes: list[str] = []

    async def careless(websocket: WebSocket) -> None:
        await websocket.accept()

        async def push() -> None:
            try:
                await websocket.send_bytes(b"x" * 1_000_000)
                outcomes.append("sent")
            except WebSocketDisconnect:
                outcomes.append("refused")

        await asyncio.gather(*(push() for _ in range(100)))

    async with site(options(max_unsent=10), prepare=lambda made: made.handle("/careless", careless)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/careless", token=new.token, max_queue=1, close_timeout=1) as client:
            client.transport.pause_reading()
            await eventually(lambda: len(outcomes) == 100, what="all sends have ended")
            assert outcomes.count("refused") >= 90
            await eventually(lambda: served.counts.closed == [1013], what="it is cut off")
            client.transport.abort()


async def test_a_client_that_does_not_answer_the_close_is_dropped() -> None:
    """F-33: the server gives a client that stopped reading no longer than it takes; nothing stays of it."""
    async with site(server={"timeout_graceful_shutdown": 30}) as served:
        new = await served.manager.create_session("u1")
        client = await served.connect(token=new.token).__aenter__()
        client.transport.pause_reading()
        await served.manager.end_session(new.id)
        await eventually(lambda: served.guard.open_sockets == 0, what="its place is free")
        client.transport.abort()


async def test_a_drain_closes_everything_and_lets_nobody_in() -> None:
    """F-27: open sockets get 1012, new handshakes are told to come back, and so is one that was under way."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        clients = await open_sockets(served, 5, token=new.token)
        fault = served.store.stall("touch")
        late = asyncio.ensure_future(refusal(served.connect(token=new.token)))
        await fault.arrived.wait()
        draining = asyncio.ensure_future(served.guard.drain(0.2))
        assert [await ending(client) for client in clients] == [(1012, "restart", [])] * 5
        fault.release()
        for response in (await late, await refusal(served.connect(token=new.token))):
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        await draining
        assert served.guard.open_sockets == 0
        assert served.counts.refused == ["restart", "restart"]
        # Nothing is left to wait for.
        await served.guard.drain(3600)


def test_every_reason_is_a_short_fixed_word() -> None:
    """S-50: at most 123 bytes by RFC 6455, and nothing in it that anybody sent."""
    closings = [each for each in vars(closing).values() if isinstance(each, Closing)]
    assert len(closings) > 15
    for each in closings:
        assert len(each.reason) <= 20
        assert each.reason == "" or each.reason.replace(" ", "").isalpha()
        assert each.code in closing.CODES


@pytest.mark.parametrize(
    "changes",
    [
        {"max_message_bytes": 0},
        {"max_sockets": 1.5},
        {"max_per_user": 0},
        {"messages_per_second": float("nan")},
        {"send_timeout": -1},
        {"validate_every": -1},
        {"warn_before": 0},
        {"max_unsent": True},
    ],
)
def test_limits_that_nothing_could_keep_are_refused(changes: dict[str, Any]) -> None:
    """A bad limit is a mistake of whoever wrote it, and said at once."""
    with pytest.raises(InvalidArgument):
        options(**changes)


async def test_an_application_may_close_a_reader_that_never_reads() -> None:
    """F-33: the application's own close waits for the client no longer than one of its messages does."""
    closed: list[str] = []

    async def flood(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async with asyncio.timeout(0.5):
                while True:
                    await websocket.send_bytes(b"x" * 65_536)
        except TimeoutError:
            await websocket.close(1000)
            closed.append("closed")

    async with site(options(send_timeout=1.0), prepare=lambda made: made.handle("/flood", flood)) as served:
        new = await served.manager.create_session("u1")
        client = await served.connect("/flood", token=new.token, max_queue=1).__aenter__()
        client.transport.pause_reading()
        await eventually(lambda: closed == ["closed"], what="the application is done", deadline=DROPPED)
        await eventually(lambda: served.guard.open_sockets == 0, what="its place is free", deadline=DROPPED)
        client.transport.abort()


LARGE = 20_000_000


@pytest.mark.parametrize("returns", [False, True])
async def test_what_was_sent_before_the_applications_own_close_arrives(returns: bool) -> None:
    """A client that is slow to read gets all of it, what was still being sent too, and then the close."""
    waiting: list[asyncio.Task[None]] = []

    async def generous(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_bytes(b"x" * LARGE)
        waiting.append(asyncio.create_task(websocket.send_bytes(b"y" * LARGE)))
        await asyncio.sleep(0)
        if not returns:
            await websocket.close(3999, "enough")

    async with site(prepare=lambda made: made.handle("/generous", generous)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/generous", token=new.token, max_queue=1, max_size=None) as client:
            client.transport.pause_reading()
            await eventually(lambda: len(waiting) == 1, what="it is closing")
            # Longer than a close that was decided may take.
            asyncio.get_running_loop().call_later(wire.GOODBYE_SECONDS * 1.5, client.transport.resume_reading)
            code, _, received = await ending(client)
        assert [len(each) for each in received] == [LARGE, LARGE]
        assert code == (1000 if returns else 3999)


async def test_a_session_that_ends_during_a_patient_close_ends_the_patience() -> None:
    """Promise 6: what waits for the client behind the application's own close is dropped a second after the end."""
    closing: list[bool] = []

    async def generous(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_bytes(b"x" * LARGE)
        closing.append(True)
        await websocket.close()

    limits = options(send_timeout=60.0)
    async with site(limits, prepare=lambda made: made.handle("/generous", generous)) as served:
        new = await served.manager.create_session("u1")
        client = await served.connect("/generous", token=new.token, max_queue=1, max_size=None).__aenter__()
        client.transport.pause_reading()
        await eventually(lambda: closing == [True], what="it is closing")
        await served.manager.end_session(new.id)
        await eventually(lambda: connections(served) == 0, what="the connection is gone", deadline=DROPPED)
        client.transport.abort()
