"""Every guarded socket of this process: how many there may be of each kind, and how they leave when it stops."""

import asyncio
import random
from collections import Counter
from typing import Final, Protocol

from holdfast.sessions.session import Session
from holdfast.sockets.guard_options import GuardOptions
from holdfast.web.closing import OVERLOADED, RESTART, TOO_MANY, Closing

# A step of the drain. Finer would be a wake-up for each of ten thousand sockets, and no client could tell.
_STEP_SECONDS: Final = 0.05
_LEAVE_SECONDS: Final = 5.0


class SocketObserver(Protocol):
    """Who counts what the guard does, for metrics. Nothing it is told names a user, a session or an address."""

    def handshake_refused(self, reason: str) -> None:
        """A handshake was refused, for one of the fixed words in `closing`."""

    def socket_closed(self, code: int) -> None:
        """A guarded socket is closed, with this code, by whichever side."""


class Closable(Protocol):
    """What the registry needs of a socket."""

    def close(self, closing: Closing) -> None: ...


class Unobserved:
    """Nobody counts."""

    def handshake_refused(self, reason: str) -> None:
        """Not counted."""

    def socket_closed(self, code: int) -> None:
        """Not counted."""


class Full(Exception):
    """There is no room for another socket; `closing` says why."""

    def __init__(self, closing: Closing) -> None:
        """Say which limit it was."""
        super().__init__(closing.reason)
        self.closing = closing


class Place:
    """The place of one socket: taken when its handshake begins, given back when the socket is closed."""

    __slots__ = ("address", "session_id", "socket", "user_id")

    def __init__(self, address: str) -> None:
        """Made by `Sockets.take`."""
        self.address = address
        self.session_id: str | None = None
        self.user_id: str | None = None
        self.socket: Closable | None = None
        """The socket that has it; `None` while its handshake waits."""


class Sockets:
    """The places of one process. Nothing here waits, so a check and what follows from it are one step."""

    def __init__(self, options: GuardOptions) -> None:
        """Make it empty."""
        self._options = options
        self.most = options.max_sockets
        """How many there may be."""
        self._places: set[Place] = set()
        self._handshakes = 0
        self._of_address: Counter[str] = Counter()
        self._of_session: Counter[str] = Counter()
        self._of_user: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self.draining = False
        """Whether new sockets are refused because the process stops."""

    @property
    def open(self) -> int:
        """How many sockets there are, not counting handshakes that wait."""
        return len(self._places) - self._handshakes

    def take(self, address: str) -> Place:
        """A place for a handshake from this address. Raises `Full`."""
        options = self._options
        if self.draining:
            raise Full(RESTART)
        if len(self._places) >= self.most or self._handshakes >= options.max_handshakes:
            raise Full(OVERLOADED)
        if _is_full(self._of_address[address], options.max_per_address):
            raise Full(TOO_MANY)
        place = Place(address)
        self._places.add(place)
        self._of_address[address] += 1
        self._handshakes += 1
        return place

    def admit(self, place: Place, socket: Closable, session: Session) -> None:
        """Give a place to a socket of a session. Raises `Full` when the session or its user has as many as it may."""
        options = self._options
        if self.draining:
            raise Full(RESTART)
        if _is_full(self._of_session[session.id], options.max_per_session) or (
            session.user_id is not None and _is_full(self._of_user[session.user_id], options.max_per_user)
        ):
            raise Full(TOO_MANY)
        place.session_id, place.user_id, place.socket = session.id, session.user_id, socket
        self._handshakes -= 1
        self._of_session[session.id] += 1
        if session.user_id is not None:
            self._of_user[session.user_id] += 1

    def leave(self, place: Place) -> None:
        """Give a place back. Safe to repeat."""
        if place not in self._places:
            return
        self._places.discard(place)
        _less(self._of_address, place.address)
        if place.session_id is None:
            self._handshakes -= 1
        else:
            _less(self._of_session, place.session_id)
            if place.user_id is not None:
                _less(self._of_user, place.user_id)
        if not self._places:
            self._empty.set()

    async def drain(self, window: float) -> None:
        """Refuse new sockets, and close those there are with 1012, in random order over so many seconds.

        Random, and spread: all clients of one server come back to the others, and must not do so at one instant.
        Returns when all are closed, a few seconds after the window at the latest; sooner when there are none.
        """
        self.draining = True
        leaving = [place for place in self._places if place.socket is not None]
        random.shuffle(leaving)
        steps = max(1, min(len(leaving), round(window / _STEP_SECONDS)))
        time = asyncio.get_running_loop().time
        began = time()
        for step in range(steps):
            for place in leaving[step::steps]:
                if place.socket is not None and place in self._places:
                    place.socket.close(RESTART)
            if await self._is_empty_within(began + window * (step + 1) / steps - time()):
                return
        await self._is_empty_within(_LEAVE_SECONDS)

    async def _is_empty_within(self, seconds: float) -> bool:
        self._empty.clear()
        if self._places:
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._empty.wait()
            except TimeoutError:
                return False
        return True


def _is_full(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit


def _less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        # Names are what clients bring: without this the counters would only ever grow.
        del counts[name]
