"""Many sockets of many sessions, and a note of everything that happens to them.

Times are `time.time()`: the databases of these tests run on this machine and read the same clock, so the instant at
which a session expires can be compared with the one at which a socket closed.
"""

import asyncio
import os
import random
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.sessions.session import EndReason
from tests.support.light_socket import LightSocket
from tests.support.stopwatch import waited

CODES: dict[EndReason, int] = {"expired": 4401, "idle": 4401, "revoked": 4403, "evicted": 4409}
_OVERLOADED = (1013, "overloaded")
_AT_ONCE = 50
_PAUSE = 0.01
_SAMPLE = 0.1
_UNANSWERED = 100
"""Messages under way at most: a server that is kept from its processor is not given more than it can answer."""


@dataclass(eq=False)
class Member:
    """One session, the sockets it opened, and what its clients know about it."""

    id: str
    token: str = field(repr=False)
    user: str
    sockets: list["Talker"] = field(default_factory=list, repr=False)
    acknowledged: int = 0
    """Validates that were answered: handshakes, echoed messages, and those over HTTP."""
    unanswered: int = 0
    """Messages that were sent and not echoed. Each may have been counted or not."""
    reason: EndReason | None = None
    """Why it is over, or will be; `None` while nothing was done to end it."""
    over_at: float | None = None
    """When its end was acknowledged, or the instant at which it expires."""

    def over(self, reason: EndReason, at: float | None = None) -> None:
        """Note its end, acknowledged now unless another instant is given."""
        self.reason, self.over_at = reason, time.time() if at is None else at


@dataclass(eq=False)
class Talker:
    """One socket of a member."""

    member: Member
    server: int
    """The number of the server it is connected to."""
    socket: LightSocket
    closed_at: float | None = None
    unanswered: dict[int, float] = field(default_factory=dict)
    """When each message that has no echo yet was sent, by its number."""

    @property
    def open(self) -> bool:
        """Whether its server has not closed it."""
        return self.closed_at is None

    def say(self, number: int) -> None:
        """Send one message."""
        self.unanswered[number] = time.time()
        self.member.unanswered += 1
        self.socket.send(b"%d" % number)


class Crowd:
    """The sockets' listener."""

    def __init__(self, chance: random.Random, servers: Sequence[int] = ()) -> None:
        """`servers` are the processes that the sockets are connected to."""
        self.talkers: list[Talker] = []
        self.wrong: list[str] = []
        """What must not have happened, in words."""
        self.longest_stall = 0.0
        """The longest time for which this process did nothing at all, in seconds: what it sees, it sees so late."""
        self._chance = chance
        self._numbers = 0
        self._answered = 0
        self._processes = (*servers, os.getpid())
        self._waits: list[tuple[float, float]] = []
        """At which instant these processes had waited how long for a processor, all together."""

    async def open(self, opening: Sequence[tuple[Member, int]], ports: Sequence[int]) -> None:
        """Open a socket for each member at the server of that number."""
        left = iter(opening)

        async def opener() -> None:
            for member, server in left:
                number = len(self.talkers)
                headers = [("Authorization", f"Bearer {member.token}")]
                # Its place comes first: a close may follow the handshake in the same packet.
                talker = Talker(member, server, socket=None)  # type: ignore[arg-type]  # one line below
                self.talkers.append(talker)
                talker.socket = await LightSocket.open(ports[server], "/ws", headers, number, self)
                member.sockets.append(talker)
                member.acknowledged += 1

        await asyncio.gather(*(opener() for _ in range(_AT_ONCE)))

    def text(self, socket: LightSocket, text: bytes) -> None:
        """An echo."""
        talker = self.talkers[socket.number]
        member, sent_at = talker.member, talker.unanswered.pop(int(text), None)
        if sent_at is None:
            self.wrong.append(f"an echo of a message that this socket did not send: {text!r}")
            return
        member.acknowledged += 1
        member.unanswered -= 1
        self._answered += 1
        if not talker.open:
            self.wrong.append(f"{member.id}: an echo after the close")
        if member.over_at is not None and sent_at > member.over_at:
            self.wrong.append(f"{member.id}: a message sent {sent_at - member.over_at:.3f} s after the end was echoed")

    def closed(self, socket: LightSocket) -> None:
        """A close, or the end of a connection."""
        talker = self.talkers[socket.number]
        if talker.open:
            talker.closed_at = time.time()

    async def talk(self, per_second: float) -> None:
        """Let sockets drawn at random send, so many messages a second in all, until cancelled."""
        due = last = time.monotonic()
        sampled, lost = 0.0, 0
        while True:
            # The pace of a crowd; also how a stall of this process is told.
            await asyncio.sleep(_PAUSE)
            now = time.monotonic()
            self.longest_stall = max(self.longest_stall, now - last - _PAUSE)
            last = now
            if now > sampled + _SAMPLE:
                sampled = now
                self._waits.append((time.time(), sum(map(waited, self._processes))))
                # What was sent to a session that has ended is not answered.
                lost = sum(len(each.unanswered) for each in self.leaving if not each.open)
            while due < now:
                due += self._chance.expovariate(per_second)
                talker = self._chance.choice(self.talkers)
                if talker.open and self._numbers - self._answered < _UNANSWERED + lost:
                    self.say(talker)

    def say(self, talker: Talker) -> None:
        """Let one socket send one message."""
        self._numbers += 1
        talker.say(self._numbers)

    @property
    def staying(self) -> list[Talker]:
        """The sockets that nobody did anything to."""
        return [talker for talker in self.talkers if talker.member.reason is None]

    @property
    def leaving(self) -> list[Talker]:
        """The sockets whose sessions are over."""
        return [talker for talker in self.talkers if talker.member.reason is not None]

    def judge(self, bound: float) -> list[str]:
        """Everything that is wrong: closes with another code or reason, late or missing ones, echoes too late."""
        wrong = list(self.wrong)
        for talker in self.talkers:
            member, told = talker.member, (talker.socket.code, talker.socket.reason)
            if member.reason is None:
                if told != (None, ""):
                    wrong.append(f"{member.id}: its session lives, and it was closed with {told}")
                continue
            if told == _OVERLOADED and talker.closed_at and self._held_up(talker.closed_at - 3, talker.closed_at) > 1.0:
                # It could not ask in time why the session was over: whoever waits two seconds for a reader gives up.
                continue
            if told != (CODES[member.reason], member.reason):
                wrong.append(f"{member.id}: closed with {told} and not for {member.reason}")
            elif member.over_at is None or talker.closed_at is None:
                wrong.append(f"{member.id}: closed, and nobody knows when")
            elif talker.closed_at - member.over_at > bound + self._held_up(member.over_at, talker.closed_at):
                wrong.append(f"{member.id}: {member.reason}, closed {talker.closed_at - member.over_at:.3f} s later")
        return wrong

    def _held_up(self, begin: float, end: float) -> float:
        """By how much the machine may have delayed what was seen between two instants."""
        if not self._waits:
            return self.longest_stall
        first = max(0, bisect_right(self._waits, (begin, 0.0)) - 1)
        last = min(bisect_left(self._waits, (end, 0.0)), len(self._waits) - 1)
        # A close may be seen before the acknowledgement of what it is for.
        return self.longest_stall + max(0.0, self._waits[last][1] - self._waits[first][1])
