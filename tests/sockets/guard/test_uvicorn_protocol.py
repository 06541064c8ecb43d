"""The bounded protocol under a uvicorn of one's own, with limits that are out of the way of what is tested."""

import asyncio
import gc
import sys

import psutil  # type: ignore[import-untyped]  # its types are a package of their own
from starlette.websockets import WebSocket

from holdfast.sockets.uvicorn_protocol import BoundedSocketProtocol
from tests.sockets.guard.site import ending, site
from tests.sockets.raw import PING, TEXT, RawClient, frame
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch


class Generous(BoundedSocketProtocol):
    """Any number of frames, and little patience."""

    frames_per_second = 1e9
    frame_burst = 10**9
    stuck_seconds = 0.5


class Patient(Generous):
    """One that counts only time in which this process, which is the reader's too, could run."""

    stuck_seconds = 1.0

    def _watch_buffer(self) -> None:
        self._watch = Stopwatch()
        super()._watch_buffer()

    def _drop_if_stuck(self, size: int) -> None:
        stalled = self._watch.seconds < 0.9 * self.stuck_seconds
        super()._drop_if_stuck(sys.maxsize if stalled else size)


async def test_nothing_is_read_of_a_client_that_does_not_read() -> None:
    """S-47: pongs that are left unread stop the reading of pings, and then the connection is dropped."""
    async with site(server={"ws": Generous}) as served:
        new = await served.manager.create_session("u1")
        address = f"http://127.0.0.1:{served.port}"
        client = await asyncio.to_thread(RawClient, address, "/ws", new.token)
        with client:
            gc.collect()
            process = psutil.Process()
            before = process.memory_info().rss
            flooding = client.flood(frame(PING, b"x" * 125) * 1000, 150_000_000)
            await eventually(lambda: not flooding.is_alive(), what="the flood ends")
            assert client.sent < 50_000_000
            assert process.memory_info().rss - before < 20 * 1024 * 1024
        await eventually(lambda: served.guard.open_sockets == 0, what="its place is free")


async def test_a_slow_reader_of_a_large_message_is_not_stuck() -> None:
    """S-47: who takes a little from time to time keeps the connection, and gets everything."""
    size = 20_000_000

    async def large(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_bytes(b"x" * size)
        await websocket.receive()

    async with site(server={"ws": Patient}, prepare=lambda made: made.handle("/large", large)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/large", token=new.token, max_size=None, max_queue=1) as client:
            received = 0
            time = asyncio.get_running_loop().time
            began = time()
            client.transport.pause_reading()
            while time() - began < 3 * Patient.stuck_seconds:
                client.transport.resume_reading()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                client.transport.pause_reading()
                # It reads now and then, for longer than a connection may be stuck: transports have no clock of ours.
                await asyncio.sleep(Patient.stuck_seconds / 20)
            client.transport.resume_reading()
            received = len(await client.recv())
        assert received == size


async def test_many_messages_at_once_keep_their_order_and_all_arrive() -> None:
    """What came in one piece is read bit by bit as the application takes it, also when the client leaves at once."""
    seen: list[str] = []

    async def note(websocket: WebSocket) -> None:
        await websocket.accept()
        seen.extend([text async for text in websocket.iter_text()])

    sent = [str(number) for number in range(90)]
    async with site(server={"ws": BoundedSocketProtocol}, prepare=lambda made: made.handle("/note", note)) as served:
        new = await served.manager.create_session("u1")
        client = await asyncio.to_thread(RawClient, f"http://127.0.0.1:{served.port}", "/note", new.token)
        with client:
            client.socket.sendall(b"".join(frame(TEXT, text.encode()) for text in sent))
        await eventually(lambda: served.guard.open_sockets == 0, what="its place is free")
        assert seen == sent


async def test_a_handler_that_takes_its_time_loses_no_client() -> None:
    """Pongs that wait behind a message are not missed: nobody is cut off because the application was busy."""
    go_on = asyncio.Event()

    async def busy(websocket: WebSocket) -> None:
        await websocket.accept()
        assert await websocket.receive_text() == "one"
        await go_on.wait()
        assert await websocket.receive_text() == "two"
        await websocket.close(1000)

    server = {"ws": BoundedSocketProtocol, "ws_ping_interval": 0.1, "ws_ping_timeout": 0.4}
    async with site(server=server, prepare=lambda made: made.handle("/busy", busy)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect("/busy", token=new.token) as client:
            await client.send("one")
            await client.send("two")
            # Five times as long as a pong may take.
            asyncio.get_running_loop().call_later(2.0, go_on.set)
            assert await ending(client) == (1000, "", [])


async def test_a_client_that_answers_no_ping_is_still_cut_off() -> None:
    """Keepalive: one that is listened to and says nothing is gone."""
    server = {"ws": BoundedSocketProtocol, "ws_ping_interval": 0.1, "ws_ping_timeout": 0.2}
    async with site(server=server) as served:
        new = await served.manager.create_session("u1")
        client = await asyncio.to_thread(RawClient, f"http://127.0.0.1:{served.port}", "/ws", new.token)
        with client:
            await eventually(lambda: served.guard.open_sockets == 0, what="its place is free")
