"""uvicorn's WebSocket protocol with limits on what no application sees: pings, pongs and pieces of messages.

    uvicorn.run("chat:app", ws=BoundedSocketProtocol, ws_per_message_deflate=False)

uvicorn answers pings and gathers pieces by itself, as many as there are, however many that is and whether or not the
client reads the answers. Whole messages need no limit here: reading stops while one waits for the application.

Only this module needs uvicorn; the rest of the guard runs under any server.
"""

import asyncio
import time
from typing import Any, ClassVar, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from holdfast.sockets.message_rate import FrameRate
from holdfast.web.closing import TOO_FAST

_SLICE_BYTES: Final = 512
"""What is parsed before anything is looked at again: at most some eighty frames, of six bytes each."""
_TURN_FRAMES: Final = 64
_TURN_BYTES: Final = 65_536
_GOODBYE_SECONDS: Final = 1.0


class BoundedSocketProtocol(WebSocketsSansIOProtocol):
    """One connection. A subclass may state other limits.

    It reads a little in each turn of the event loop, and nothing while the client leaves unread what is written, or
    while a message waits for the application.
    """

    frames_per_second: ClassVar[float] = 500.0
    """Frames that are no whole message, on average; more close the socket with 1008 `too fast`."""
    frame_burst: ClassVar[int] = 1000
    """How many of them at once."""
    stuck_seconds: ClassVar[float] = 10.0
    """For how long a client may take nothing of a full buffer before its connection is dropped."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Made by uvicorn."""
        super().__init__(*arguments, **options)
        self._rate = FrameRate(self.frame_burst, time.monotonic())
        self._unread = bytearray()
        self._read_frames = 0
        self._read_at = 0.0
        self._refused = False
        self._next_turn: asyncio.Handle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came, and read as much of it as one turn may."""
        self._read_at = self.loop.time()
        if self._refused:
            return
        self._unread += data
        if self._next_turn is None:
            self._read_on()

    def handle_events(self) -> None:
        """Count the frames before anything is done for them."""
        counted = sum(1 for event in self.conn.events if self.close_sent or not _is_message(event))
        self._read_frames += len(self.conn.events)
        now = time.monotonic()
        if all(self._rate.take(now, self.frames_per_second, self.frame_burst) for _ in range(counted)):
            super().handle_events()
        else:
            self._refuse()

    async def receive(self) -> Any:
        """The next event for the application; the one after it may be read now."""
        message = await super().receive()
        if self._next_turn is None:
            self._read_on()
        return message

    def pause_writing(self) -> None:
        """The client does not take what is written: nothing more is read, or the answers would pile up."""
        super().pause_writing()
        self._watch_buffer()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._forget_buffer()
        if self._next_turn is None:
            self._read_on()

    def keepalive_timeout(self) -> None:
        """The client's pong is late: its fault only if it said nothing at all, and was listened to."""
        listening = not self._unread and self.transport.is_reading()
        if self.ping_timeout is not None and not (listening and self._read_at < self.ping_sent_at):
            self.ping_sent_at = self.loop.time()
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and so is what was not read of it."""
        super().connection_lost(exc)
        self._unread.clear()
        self._forget_buffer()

    def _read_on(self) -> None:
        self._next_turn = None
        left, before = _TURN_BYTES, self._read_frames
        while self._unread and self._may_read() and left > 0 and self._read_frames - before < _TURN_FRAMES:
            piece = bytes(self._unread[:_SLICE_BYTES])
            del self._unread[:_SLICE_BYTES]
            left -= len(piece)
            super().data_received(piece)
        if self.transport.is_closing():
            self._unread.clear()
        elif self._unread or not self._may_read():
            self.transport.pause_reading()
            if self._may_read():
                self._next_turn = self.loop.call_soon(self._read_on)
        else:
            self.transport.resume_reading()

    def _may_read(self) -> bool:
        return not (self.read_paused or self._refused or self.transport.is_closing()) and self.writable.is_set()

    def _refuse(self) -> None:
        """Close it: in order if the client takes the close at once, else by dropping the connection."""
        self._refused = True
        self._unread.clear()
        self.conn.events_received()
        if not self.handshake_complete:
            self.transport.abort()
            return
        if not self.close_sent:
            self.stop_keepalive()
            code, reason = TOO_FAST
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.conn.fail(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        # What the application still sends meets a client that has gone.
        self.disconnected = True
        self.writable.set()
        self.loop.call_later(_GOODBYE_SECONDS, self.transport.abort)

    def _watch_buffer(self) -> None:
        if self._stuck is None:
            size = self.transport.get_write_buffer_size()
            self._stuck = self.loop.call_later(self.stuck_seconds, self._drop_if_stuck, size)

    def _drop_if_stuck(self, size: int) -> None:
        self._stuck = None
        if self.transport.get_write_buffer_size() >= size:
            self.transport.abort()
        else:
            self._watch_buffer()

    def _forget_buffer(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


def _is_message(event: object) -> bool:
    return isinstance(event, Frame) and event.fin and event.opcode in (Opcode.TEXT, Opcode.BINARY)
