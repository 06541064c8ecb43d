"""What a chaos run writes down: what every client asked and was told, what was broken meanwhile, and what is stored.

Times are seconds of this machine's monotonic clock, also those that the database said. Tokens are numbers here and,
for the comparison with the stored rows, digests; no token is kept.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

CallKind = Literal[
    "create",
    "validate",
    "current",
    "rotate",
    "extend",
    "metadata",
    "end",
    "end_own",
    "end_device",
    "revoke",
    "ticket",
    "stats",
    "forged",
]

Outcome = Literal["ok", "refused", "failed", "unknown", "fault", "hung"]
"""`refused`: certainly no, there is no such live session. `failed`: certainly not done. `unknown`: stated as such, or
the connection was lost after sending. `fault`: an answer that no promise allows. `hung`: no end at all."""

Effect = Literal["frozen", "stopped", "store", "push"]
"""What a fault means for a server: it stands still, it is gone, it cannot reach PostgreSQL, or no hint reaches it."""

NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of the servers that the promises are about."""

    lifetime: float
    idle: float
    max_lifetime: float
    cap: int
    deadline: float
    connections: int
    """PostgreSQL connections that one server may have, the listening one included."""


@dataclass(slots=True)
class Call:
    """One HTTP call of one client. What its answer said is in the optional fields."""

    number: int
    kind: CallKind
    server: int
    begun: float
    ended: float = NEVER
    outcome: Outcome = "hung"
    status: str = ""
    """The status, and the code of an error; or what became of the connection."""
    client: int = 0
    user: str | None = None
    session: str | None = None
    """The session it is about, as the client knows it; for a create the one that was made."""
    token: int | None = None
    """The number of the token that was presented."""
    target: str | None = None
    """`end_device`: the other session. `revoke`: the one to keep."""
    key: str = ""
    """`metadata`: what was set to `value`. `forged`: what kind of forgery it was."""
    value: int = 0
    made: int | None = None
    """The number of the token in the answer."""
    answered: str | None = None
    """The id of the session in the answer."""
    expires_at: float | None = None
    last_activity: float | None = None
    count: int | None = None
    """The `request_count` in the answer, or the number of active sessions, or of those revoked."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was issued."""

    number: int
    session: str
    digest: bytes
    issued: float
    """When its answer arrived."""


@dataclass(slots=True)
class Message:
    """What a socket's client sent, and when the echo came."""

    sent: float
    echoed: float | None = None


@dataclass(slots=True)
class Socket:
    """One WebSocket, or the attempt to open one."""

    number: int
    server: int
    session: str
    way: Literal["bearer", "cookie", "ticket"]
    begun: float
    token: int | None = None
    ticket: int | None = None
    opened: float | None = None
    answered: float = NEVER
    """When the handshake was over, whichever way."""
    status: str = ""
    """What a handshake that did not open was answered with."""
    messages: list[Message] = field(default_factory=list)
    left: float | None = None
    """When the client itself began to close it."""
    closed: float | None = None
    """When the server's close frame arrived."""
    ended: float = NEVER
    """When the connection was gone, for whatever reason."""
    code: int = 1006
    reason: str = ""
    late_bytes: int = 0
    """What arrived after the close frame."""
    strange: list[str] = field(default_factory=list)
    """What arrived that was no echo of this socket's own messages."""


@dataclass(slots=True)
class Window:
    """One fault: from before it was made until it was undone, and until the servers in question served again."""

    kind: str
    effect: Effect
    servers: frozenset[int]
    begun: float
    ended: float = NEVER
    recovered: float = NEVER


@dataclass(frozen=True, slots=True)
class Row:
    """One stored session."""

    id: str
    user: str | None
    digest: bytes
    previous: bytes | None
    created: float
    expires: float
    active: float
    ended: float | None
    reason: str | None
    count: int
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All stored sessions at one moment between two."""

    why: str
    begun: float
    ended: float
    rows: dict[str, Row]


@dataclass(frozen=True, slots=True)
class Sample:
    """How long the machine has kept processes waiting, in seconds since each began."""

    at: float
    late: float
    """By how much the observer's loop was late just now."""
    waited: tuple[float, ...]
    """For each server, all its processes so far together: how long it was ready to run and had no processor."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What one server has when nothing is under way."""

    server: int
    tasks: dict[str, int]
    """Tasks of its event loop by name."""
    files: int
    """Open files that are no connections."""
    clients: int
    """Connections of clients."""
    database: int
    """Connections to PostgreSQL."""


@dataclass(slots=True)
class History:
    """Everything about one run."""

    rules: Rules
    seed: int = 0
    began: float = 0.0
    calls: list[Call] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    tickets: int = 0
    """How many tickets were issued."""
    windows: list[Window] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    """In order; the last one was taken when nothing was under way any more."""
    samples: list[Sample] = field(default_factory=list)
    before: list[Rest] = field(default_factory=list)
    after: list[Rest] = field(default_factory=list)
    backends: dict[str, int] = field(default_factory=dict)
    """What the servers left in `pg_stat_activity`, by state, after they had stopped or come to rest."""
    lines: list[str] = field(default_factory=list)
    """What no server's log should hold: tracebacks, forgotten failures, tokens."""
    clock_error: float = 0.0
    """By how much the comparison of the two clocks differed over the run."""
    final_active: list[int] = field(default_factory=list)
    """What each server counted as active sessions at the end."""
    final_live: int = 0
    """What PostgreSQL counted at that moment."""

    def waited(self, server: int, begin: float, end: float) -> float:
        """How long server and observer had no processor between two moments, as far as the samples show."""
        within = _between(self.samples, begin, end)
        if len(within) < 2:
            return 0.0
        of_server = within[-1].waited[server] - within[0].waited[server]
        return of_server + sum(sample.late for sample in within)

    def disturbed(self, effects: Iterable[Effect], server: int, begin: float, end: float) -> list[Window]:
        """The faults of some kinds that concerned a server between two moments, recovery included."""
        wanted = frozenset(effects)
        return [
            window
            for window in self.windows
            if window.effect in wanted and server in window.servers and window.begun < end and window.recovered > begin
        ]


def _between(samples: list[Sample], begin: float, end: float) -> list[Sample]:
    """The samples from the last one before to the first one after; they are in order of time."""
    first = max(0, bisect_right(samples, begin, key=lambda sample: sample.at) - 1)
    last = bisect_left(samples, end, key=lambda sample: sample.at) + 1
    return samples[first:last]
