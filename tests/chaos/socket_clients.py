"""The clients over WebSockets: each opens one, chats, and writes down what arrived and when, to the last byte."""

import asyncio
import random
import struct
from dataclasses import dataclass
from typing import Any, Final, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.chaos.clients import Api
from tests.chaos.history import History, Message, Socket
from tests.chaos.population import Held, Population
from tests.chaos.world import COOKIE, ORIGIN, World

MOST_SOCKETS: Final = 50_000
"""After so many sockets the clients stop: what is written down has to fit into memory."""
MOST_MESSAGES: Final = 400_000
"""The same for messages, of all sockets together."""

Way = Literal["bearer", "cookie", "ticket"]

_SILENT: Final = 1e9
_LONGEST_CLOSE: Final = 4 + 123
_NO_CODE: Final = 1005


class Watched(ClientConnection):
    """A connection that knows when the close frame arrived, and what came after it.

    The library throws away what follows a close frame, so the bytes themselves are looked at.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Made by the library."""
        super().__init__(*arguments, **options)
        self.closed_at: float | None = None
        self.late_bytes = 0
        self.received = b""
        """The last bytes that arrived."""

    def data_received(self, data: bytes) -> None:
        """Note what arrives."""
        if self.closed_at is not None:
            self.late_bytes += len(data)
        super().data_received(data)
        arrived = self.received + data
        if self.closed_at is None and (close := self.protocol.close_rcvd) is not None:
            self.closed_at = self.loop.time()
            # From a server a frame is not masked: the byte for "close, and the last part of it", the length, the code.
            payload = b"" if close.code == _NO_CODE else struct.pack("!H", close.code) + close.reason.encode()
            self.late_bytes += len(arrived.partition(bytes((0x88, len(payload))) + payload)[2])
        self.received = arrived[-_LONGEST_CLOSE:]


@dataclass(frozen=True, slots=True)
class Visit:
    """The dice of one socket."""

    server: int
    way: Way = "bearer"
    names_id: bool = False
    """Whether the path names the session."""
    twice: bool = False
    """Whether a ticket is used twice at once, on two servers."""
    pace: float = 0.2
    """Seconds between two messages; none at all when it is more than a socket lasts."""
    lasts: float = 1.0
    """Seconds until the client leaves."""


class SocketClient:
    """One client: socket after socket until it is told to stop, and then it stays until it is told to leave."""

    def __init__(self, number: int, seed: int, api: Api, population: Population) -> None:
        """Prepare it."""
        self._dice = random.Random(f"{seed} socket client {number}")
        self._api = api
        self._world: World = api.world
        self._history: History = api.history
        self._people = population
        self._time = asyncio.get_running_loop().time

    def _next_visit(self) -> Visit:
        dice = self._dice
        return Visit(
            server=dice.randrange(self._world.count),
            way=dice.choice(("bearer", "bearer", "cookie", "ticket")),
            names_id=dice.random() < 0.5,
            twice=dice.random() < 0.4,
            pace=_SILENT if dice.random() < 0.35 else dice.uniform(0.2, 2.0),
            lasts=dice.expovariate(1 / 25.0),
        )

    async def run(self, stop: asyncio.Event, leave: asyncio.Event) -> None:
        """Open sockets until told to stop; the last one is left open until told to leave."""
        while not stop.is_set() and len(self._history.sockets) < MOST_SOCKETS:
            visit = self._next_visit()
            who, pause = self._dice.random(), self._dice.uniform(0.05, 1.0)
            if (held := self._people.pick(who)) is not None:
                await self.visit(visit, held, stop, leave)
            await _until(stop, pause)

    async def visit(self, visit: Visit, held: Held, stop: asyncio.Event, leave: asyncio.Event) -> None:
        """Open one socket, or two at once with one ticket, and stay until it is over."""
        if visit.way != "ticket":
            record = self._attempt(visit.server, held, visit.way)
            record.token = held.number
            await self._open(record, visit, held.secret, stop, leave)
            if record.status == "401" and self._people.held.get(held.session) is held:
                self._people.lose(held.session)
        else:
            await self._visit_by_ticket(visit, held, stop, leave)

    async def _visit_by_ticket(self, visit: Visit, held: Held, stop: asyncio.Event, leave: asyncio.Event) -> None:
        other = (visit.server + 1) % self._world.count
        call, content = await self._api.call(
            *("ticket", other, "POST", "/sessions/current/ticket", held.secret),
            session=held.session,
            user=held.user,
            token=held.number,
        )
        if call.outcome == "ok":
            ticket = self._people.new_ticket()
            records = [self._attempt(server, held, "ticket") for server in (visit.server, other)[: 1 + visit.twice]]
            for record in records:
                record.ticket = ticket
            secret = content["ticket"]
            await asyncio.gather(*(self._open(record, visit, secret, stop, leave) for record in records))

    def _attempt(self, server: int, held: Held, way: Way) -> Socket:
        record = Socket(len(self._history.sockets), server, held.session, way, self._time())
        self._history.sockets.append(record)
        return record

    async def _open(self, record: Socket, visit: Visit, secret: str, stop: asyncio.Event, leave: asyncio.Event) -> None:
        path = f"/ws/{record.session}" if visit.names_id else "/ws"
        if record.way == "ticket":
            path += f"?ticket={secret}"
        headers = {
            "bearer": [("Authorization", f"Bearer {secret}")],
            "cookie": [("Cookie", f"{COOKIE}={secret}"), ("Origin", ORIGIN)],
            "ticket": [],
        }[record.way]
        address = self._world.servers[record.server].address.replace("http", "ws", 1)
        try:
            connection = await connect(
                f"{address}{path}",
                additional_headers=headers,
                create_connection=Watched,
                open_timeout=None,
                close_timeout=2.0,
                ping_interval=None,
                compression=None,
                max_queue=None,
                proxy=None,
            )
        except InvalidStatus as refused:
            record.status = str(refused.response.status_code)
        except (OSError, EOFError, InvalidHandshake, ConnectionClosed) as error:
            record.status = type(error).__name__
        else:
            record.opened = self._time()
        record.answered = self._time()
        if record.opened is not None:
            assert isinstance(connection, Watched)
            await self._chat(record, connection, visit, stop, leave)

    async def _chat(
        self, record: Socket, connection: Watched, visit: Visit, stop: asyncio.Event, leave: asyncio.Event
    ) -> None:
        reading = asyncio.create_task(self._read(record, connection))
        talking = asyncio.create_task(self._talk(record, connection, visit.pace, stop))
        leaving = asyncio.create_task(self._time_to_leave(visit.lasts, stop, leave))
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                record.left = self._time()
                await connection.close()
            await reading
        finally:
            for task in (reading, talking, leaving):
                task.cancel()
            await asyncio.gather(reading, talking, leaving, return_exceptions=True)
            record.closed = connection.closed_at
            record.late_bytes = connection.late_bytes
            if (close := connection.protocol.close_rcvd) is not None:
                record.code, record.reason = close.code, close.reason

    async def _time_to_leave(self, lasts: float, stop: asyncio.Event, leave: asyncio.Event) -> None:
        """Return when its time is over, or everybody's; from the stop on nobody leaves before he is told to."""
        if not await _until(stop, lasts):
            return
        await leave.wait()

    async def _read(self, record: Socket, connection: Watched) -> None:
        # Texts are numbered for each socket: the number says which message it echoes.
        try:
            async for text in connection:
                number = _number_of(text, record)
                if number is None or record.messages[number].echoed is not None:
                    record.strange.append(str(text)[:50])
                else:
                    record.messages[number].echoed = self._time()
        except ConnectionClosed:
            pass
        record.ended = self._time()

    async def _talk(self, record: Socket, connection: Watched, pace: float, stop: asyncio.Event) -> None:
        while not await _until(stop, pace):
            if self._people.said >= MOST_MESSAGES:
                return
            self._people.said += 1
            record.messages.append(Message(self._time()))
            try:
                await connection.send(f"{record.number} {len(record.messages) - 1}")
            except ConnectionClosed:
                return


async def _until(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most so long; whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _number_of(text: str | bytes, record: Socket) -> int | None:
    """Which of a socket's messages a text echoes."""
    match str(text).split():
        case [socket, number] if socket == str(record.number) and number.isdigit():
            return int(number) if int(number) < len(record.messages) else None
    return None
