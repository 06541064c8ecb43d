"""The checker finds what is wrong: a peaceful history has no violation, and each wrong one has the right one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import pytest

from tests.chaos.checker import CHECKS, violations
from tests.chaos.history import (
    Call,
    CallKind,
    Effect,
    History,
    Message,
    Rest,
    Row,
    Rules,
    Sample,
    Snapshot,
    Socket,
    Token,
    Window,
)
from tests.chaos.story import stories

ONE, OTHER = "01938a5e-7b1c-7f3e-8f4a-000000000001", "01938a5e-7b1c-7f3e-8f4a-000000000002"
RULES = Rules(lifetime=30.0, idle=20.0, max_lifetime=60.0, cap=2, deadline=2.0, connections=12)


def digest(number: int) -> bytes:
    """A digest of a token that does not matter."""
    return bytes([number]) * 32


class Tale:
    """A history of two sessions, and handles on its parts for whoever wants to spoil it."""

    def __init__(self) -> None:
        """Tell it.

        `ONE` is made at 100, used over HTTP and a socket, rotated, and ended at 110 by an operator on another server;
        `OTHER` is made at 101, forgotten, and idles out at 122 with a socket open.
        """
        self.history = History(RULES, before=self.rests(), after=self.rests(), final_active=[0, 0, 0], final_live=0)
        self.create = self.call("create", 0, 100.0, made=1, session=ONE, answered=ONE, expires_at=130.0)
        self.create_other = self.call("create", 1, 101.0, made=2, session=OTHER, answered=OTHER, expires_at=131.0)
        self.validate = self.call("validate", 1, 102.0, token=1, answered=ONE, expires_at=130.0, count=1)
        self.validate.last_activity = 102.05
        self.rotate = self.call("rotate", 2, 103.0, token=1, made=3, answered=ONE, expires_at=130.0)
        self.old = self.call("validate", 0, 104.0, token=1, outcome="refused")
        self.extend = self.call("extend", 0, 105.0, answered=None, expires_at=135.0)
        self.update = self.call("metadata", 1, 106.0, key="w1", value=7, answered=ONE)
        self.stats = self.call("stats", 1, 107.0, session=None, count=2)
        self.forged = self.call("forged", 0, 108.0, session=None, outcome="refused", key="an id")
        self.end = self.call("end", 0, 110.0)
        self.after = self.call("validate", 2, 111.0, token=3, outcome="refused")
        self.history.tokens = [
            Token(1, ONE, digest(1), 100.1),
            Token(2, OTHER, digest(2), 101.1),
            Token(3, ONE, digest(3), 103.1),
        ]
        self.socket = self.open(ONE, 1, 105.0, token=3, closed=110.2, code=4403, reason="revoked")
        self.socket.messages = [Message(106.0, 106.1), Message(107.0, 107.1)]
        self.silent = self.open(OTHER, 2, 102.0, token=2, closed=122.2, code=4401, reason="idle")
        self.rows = {
            ONE: Row(ONE, "u", digest(3), digest(1), 100.05, 135.0, 107.05, 110.05, "revoked", 4, {"by": 0, "w1": 7}),
            OTHER: Row(OTHER, "u", digest(2), None, 101.05, 131.0, 102.05, 124.0, "idle", 1, {"by": 1}),
        }
        self.history.snapshots = [
            Snapshot("after a restart", 103.5, 103.6, self.earlier()),
            Snapshot("in the end", 150.0, 150.1, self.rows),
        ]
        self.history.samples = [Sample(90.0 + step / 10, 0.0, (0.0, 0.0, 0.0)) for step in range(700)]
        self.window = Window("cut the push channel", "push", frozenset({0}), 140.0, 140.1, 140.3)
        self.history.windows = [self.window]

    def earlier(self) -> dict[str, Row]:
        """What was stored at 103.5."""
        one = replace(self.rows[ONE], expires=130.0, active=102.05, ended=None, reason=None, count=1)
        other = replace(self.rows[OTHER], ended=None, reason=None)
        return {ONE: replace(one, metadata={"by": 0}), OTHER: other}

    def rests(self) -> list[Rest]:
        """Three servers with nothing to do."""
        return [Rest(number, {"holdfast-sweep": 1}, files=7, clients=0, database=5) for number in range(3)]

    def call(self, kind: CallKind, server: int, begun: float, **facts: object) -> Call:
        """A call of 0.1 s about `ONE`, that went well."""
        call = Call(len(self.history.calls), kind, server, begun, begun + 0.1, "ok", user="u", session=ONE)
        for name, value in facts.items():
            setattr(call, name, value)
        self.history.calls.append(call)
        return call

    def open(self, session: str, server: int, begun: float, **facts: object) -> Socket:
        """A socket that was opened in 0.1 s, and whose connection was gone 0.1 s after its close."""
        socket = Socket(len(self.history.sockets), server, session, "bearer", begun)
        socket.opened = socket.answered = begun + 0.1
        for name, value in facts.items():
            setattr(socket, name, value)
        socket.ended = (socket.closed or 130.0) + 0.1
        self.history.sockets.append(socket)
        return socket

    # What spoils it. Each gives the tale back, for the next.

    def row(self, id: str, **changes: object) -> Self:
        """Store something else in the end."""
        self.rows[id] = replace(self.rows[id], **changes)  # type: ignore[arg-type]  # names and values of a row
        return self

    def row_before(self, id: str, **changes: object) -> Self:
        """Store something else at 103.5."""
        rows = self.history.snapshots[0].rows
        rows[id] = replace(rows[id], **changes)  # type: ignore[arg-type]  # names and values of a row
        return self

    def spoil(self, **changes: object) -> Self:
        """Change parts: `end__status="x"` is `self.end.status = "x"`."""
        for name, value in changes.items():
            part, _, attribute = name.partition("__")
            setattr(getattr(self, part), attribute, value)
        return self

    def calls(self, kind: CallKind, server: int, begun: float, **facts: object) -> Self:
        """One call more."""
        self.call(kind, server, begun, **facts)
        return self

    def say(self, sent: float, echoed: float) -> Self:
        """One more message on the socket of `ONE`."""
        self.socket.messages.append(Message(sent, echoed))
        return self

    def fault(self, effect: Effect, begun: float, ended: float, recovered: float, server: int = 1) -> Self:
        """A fault of one server."""
        self.history.windows.append(Window("a fault", effect, frozenset({server}), begun, ended, recovered))
        return self

    def evict(self, closed: float) -> Self:
        """Let a create on server 0 evict `OTHER` at 115 while another one, on the socket's own server, is under way."""
        for server, created in ((0, 115.01), (2, 115.04)):
            id = f"{OTHER[:-1]}{server + 3}"
            maker = self.call("create", server, 114.96, session=id, answered=id, expires_at=created + 30)
            self.rows[id] = replace(
                self.rows[OTHER], id=id, created=created, expires=created + 30, active=created, count=0
            )
            self.row(id, ended=None, reason=None, metadata={"by": maker.number})
        self.row(OTHER, ended=115.0, reason="evicted")
        return self.spoil(silent__closed=closed, silent__ended=closed, silent__code=4409, silent__reason="evicted")

    def trouble(self) -> Self:
        """Server 1 is killed again and again, all the time."""
        return self.fault("stopped", 102.5, 112.0, 112.5)

    def rest(self, *, files: int = 7, clients: int = 0, database: int = 0, tasks: int = 0) -> Self:
        """What server 0 has in the end."""
        self.history.after[0] = Rest(0, {"holdfast-call": tasks}, files, clients, database)
        return self

    def starve(self, server: int, seconds: float, at: float) -> Self:
        """Keep a server waiting for a processor."""
        samples = self.history.samples
        for number, sample in enumerate(samples):
            if sample.at > at:
                waited = tuple(seconds if each == server else 0.0 for each in range(3))
                samples[number] = replace(sample, waited=waited)
        return self


Spoiler = Callable[[Tale], object]


def found(tale: Tale) -> list[str]:
    """What the checker says, without the times."""
    return [f"{each.promise}: {each.text}" for each in violations(tale.history)]


def test_a_peaceful_history_is_right() -> None:
    """What happened as it should has no violation, or every run would have some."""
    assert found(Tale()) == []


WRONG: list[tuple[str, int, str, Spoiler]] = [
    # Promise 1
    ("a lost create", 1, "it is not there", lambda tale: tale.rows.pop(ONE)),
    ("a create lost by a restart", 1, "it is not there", lambda tale: tale.history.snapshots[0].rows.pop(ONE)),
    ("another's session", 1, "belongs to v", lambda tale: tale.row(ONE, user="v")),
    ("a lost end", 1, "it has not ended", lambda tale: tale.row(ONE, ended=None, reason=None)),
    (
        "a lost revoke of a user",
        1,
        "it has not ended",
        lambda tale: tale.calls("revoke", 0, 112.0, session=None, count=1).row(OTHER, ended=None, reason=None),
    ),
    ("a lost extension", 1, "before what was acknowledged", lambda tale: tale.row(ONE, expires=130.0)),
    ("a lost activity", 1, "is not stored", lambda tale: tale.row(ONE, active=101.0)),
    ("a lost count", 1, "activities, and 0 are stored", lambda tale: tale.row(ONE, count=0)),
    ("lost metadata", 1, "set w1 to 7, and it is None", lambda tale: tale.row(ONE, metadata={"by": 0})),
    ("a lost rotation", 1, "token 3 was issued", lambda tale: tale.row(ONE, digest=digest(1), previous=None)),
    (
        "a count that went back",
        1,
        "went back",
        lambda tale: tale.row_before(OTHER, count=9),
    ),
    (
        "an extension that failed, and was made",
        1,
        "after what anybody was told",
        lambda tale: tale.spoil(extend__outcome="failed", extend__expires_at=None),
    ),
    (
        "an update that failed, and was made",
        1,
        "w1 is 7, and no call",
        lambda tale: tale.spoil(update__outcome="failed"),
    ),
    # Promise 2
    (
        "an end that was taken back",
        2,
        "had ended (evicted)",
        lambda tale: tale.row_before(OTHER, ended=103.0, reason="evicted"),
    ),
    ("resurrection", 2, "after its end was acknowledged", lambda tale: tale.spoil(after__outcome="ok")),
    (
        "resurrection over a socket",
        2,
        "handshake by bearer",
        lambda tale: tale.open(ONE, 2, 112.0, token=3, left=113.0, closed=113.0, code=1000),
    ),
    (
        "an echo of what was sent later",
        2,
        "a message at 110.150",
        lambda tale: tale.say(110.15, 110.17),
    ),
    ("bytes after the close frame", 2, "after its close frame", lambda tale: tale.spoil(socket__late_bytes=3)),
    ("a token that rotation left alive", 2, "that was replaced", lambda tale: tale.spoil(old__outcome="ok")),
    (
        "two successors",
        2,
        "replaced 2 times",
        lambda tale: tale.call("rotate", 1, 103.0, token=1, made=3, answered=ONE),
    ),
    (
        "a delivery long after the end, by a server that was frozen",
        2,
        "had an echo at 125",
        lambda tale: (
            tale.fault("frozen", 109.9, 124.9, 124.9).spoil(socket__closed=125.3, socket__ended=125.4).say(109.8, 125.0)
        ),
    ),
    # Promise 3
    ("a forgery that opened", 3, "was answered ok", lambda tale: tale.spoil(forged__outcome="ok")),
    ("a row that nobody made", 3, "no call made it", lambda tale: tale.row(ONE, metadata={"by": 99, "w1": 7})),
    ("a row of a create that failed", 3, "no call made it", lambda tale: tale.spoil(create__outcome="failed")),
    (
        "a ticket that opened twice",
        3,
        "ticket 5 opened 2 sockets",
        lambda tale: [
            tale.open(ONE, server, 104.0, ticket=5, way="ticket", left=104.5, closed=104.5, code=1000)
            for server in (0, 1)
        ],
    ),
    # Promise 4
    (
        "life after expiry",
        4,
        "after its time",
        lambda tale: tale.call("current", 0, 124.0, session=OTHER, token=2, answered=OTHER, count=1),
    ),
    (
        "life after the idle timeout",
        4,
        "after the last activity",
        lambda tale: tale.call("validate", 0, 126.0, session=OTHER, token=2, answered=OTHER, count=2),
    ),
    ("a refusal before the time", 4, "did not find it", lambda tale: tale.spoil(validate__outcome="refused")),
    (
        "a handshake refused before the time",
        4,
        "did not find it",
        lambda tale: tale.spoil(socket__opened=None, socket__status="401"),
    ),
    (
        "a ticket that opens nothing",
        4,
        "the ticket 5 at 104.000 did not open it",
        lambda tale: tale.open(ONE, 0, 104.0, ticket=5, way="ticket", opened=None, status="401"),
    ),
    ("an end without a cause", 4, "nothing explains it", lambda tale: tale.spoil(end__outcome="failed")),
    ("an end too early", 4, "nothing explains it", lambda tale: tale.row(OTHER, ended=121.0)),
    (
        "an eviction that nobody made",
        4,
        "nothing explains it",
        lambda tale: tale.row(OTHER, ended=115.0, reason="evicted").spoil(silent__code=4409),
    ),
    ("a clock that was set", 4, "clock was set", lambda tale: setattr(tale.history, "clock_error", 0.2)),
    # Promise 5
    ("a count too low", 5, "3 activities are stored, not 4 to 4", lambda tale: tale.row(ONE, count=3)),
    ("a count too high", 5, "5 activities are stored, not 4 to 4", lambda tale: tale.row(ONE, count=5)),
    ("an answer with a count too high", 5, "was told of 2 activities", lambda tale: tale.spoil(validate__count=2)),
    (
        "an answer with a count too low",
        5,
        "was told of 1 activities, not 3",
        lambda tale: tale.call("current", 0, 106.5, token=3, answered=ONE, count=1),
    ),
    ("too few active sessions", 5, "counted 1 active sessions, not 2 to 2", lambda tale: tale.spoil(stats__count=1)),
    ("too many active sessions", 5, "counted 3 active sessions, not 2 to 2", lambda tale: tale.spoil(stats__count=3)),
    ("another count in the end", 5, "in the end, not 1", lambda tale: setattr(tale.history, "final_live", 1)),
    (
        "more sessions than the cap",
        5,
        "had 2 live sessions, and the cap is 1",
        lambda tale: setattr(tale.history, "rules", replace(RULES, cap=1)),
    ),
    # Promise 6
    (
        "a close that is late",
        6,
        "was closed 2.000 s after the end",
        lambda tale: tale.spoil(socket__closed=112.1, socket__ended=112.2),
    ),
    (
        "a close that is missing",
        6,
        "was never closed",
        lambda tale: tale.spoil(socket__closed=None, socket__ended=float("inf")),
    ),
    (
        "a close that is late even for polling",
        6,
        "polling: 10.5",
        lambda tale: tale.fault("push", 109.0, 112.0, 113.0).spoil(socket__closed=121.0, socket__ended=121.1),
    ),
    (
        "a close that is late after a freeze",
        6,
        "was closed 6.900 s after the end",
        lambda tale: tale.fault("frozen", 109.9, 115.0, 115.0).spoil(socket__closed=117.0, socket__ended=117.1),
    ),
    (
        "an expiry that is late",
        6,
        "was closed 2.950 s after the end",
        lambda tale: tale.spoil(silent__closed=125.0, silent__ended=125.1),
    ),
    (
        "an eviction that is late",
        6,
        "was closed 2.940 s after the end",
        lambda tale: tale.evict(closed=118.0),
    ),
    ("a wrong code", 6, "its session ended as revoked", lambda tale: tale.spoil(socket__code=4401)),
    ("a wrong reason", 6, "its session ended as idle", lambda tale: tale.spoil(silent__reason="expired")),
    (
        "a close before the end",
        6,
        "its session ended",
        lambda tale: tale.spoil(socket__closed=109.0, socket__ended=109.1),
    ),
    ("a close for nothing", 6, "there is no cause", lambda tale: tale.spoil(socket__code=1011, socket__reason="x")),
    ("a restart that was none", 6, "nobody stopped", lambda tale: tale.spoil(socket__code=1012)),
    ("trouble that was none", 6, "had no trouble", lambda tale: tale.spoil(socket__code=1013)),
    (
        "a connection that was lost",
        6,
        "nobody killed",
        lambda tale: tale.spoil(socket__code=1006, socket__closed=None, socket__ended=109.0),
    ),
    (
        "a delivery when it had to be closed",
        6,
        "when it had to be closed",
        lambda tale: tale.spoil(socket__closed=112.3, socket__ended=112.4).say(109.0, 112.2),
    ),
    # Promise 7
    ("a call past its deadline", 7, "took 4.000 s", lambda tale: tale.spoil(validate__ended=106.0)),
    (
        "a call that never ended",
        7,
        "never ended",
        lambda tale: tale.spoil(update__outcome="hung", update__ended=float("inf")),
    ),
    (
        "an answer that no promise allows",
        7,
        "was answered 500",
        lambda tale: tale.spoil(update__outcome="fault", update__status="500 internal"),
    ),
    (
        "a failure while nothing is broken",
        7,
        "nothing was broken",
        lambda tale: tale.calls("validate", 0, 105.0, token=3, outcome="unknown", status="503 outcome_unknown"),
    ),
    (
        "a refused connection while nothing is broken",
        7,
        "ConnectError, and nothing was broken",
        lambda tale: tale.calls("validate", 0, 105.0, token=3, outcome="failed", status="ConnectError"),
    ),
    (
        "a handshake that fails while nothing is broken",
        7,
        "had 503, and nothing was broken",
        lambda tale: tale.open(ONE, 0, 105.0, opened=None, status="503", token=3),
    ),
    (
        "a server that refuses half of what it is asked",
        7,
        "calls to servers without trouble only 10 did not fail",
        lambda tale: [
            tale.fault("frozen", 99.0, 99.5, 99.5).call(
                "validate", 0, 105.0, token=3, outcome="failed", status="503 unavailable"
            )
            for _ in range(10)
        ],
    ),
    ("another's answer", 7, f"was answered {OTHER}", lambda tale: tale.spoil(validate__answered=OTHER)),
    ("another's message", 7, "what it had not said", lambda tale: tale.socket.strange.append("9 1")),
    ("a handshake past its deadline", 7, "the handshake", lambda tale: tale.spoil(socket__begun=97.0)),
    (
        "a message without an echo",
        7,
        "a message on socket 1",
        lambda tale: tale.silent.messages.append(Message(103.0)),
    ),
    (
        "a server that does not come back",
        7,
        "not all servers served",
        lambda tale: tale.spoil(window__recovered=152.0),
    ),
    (
        "tasks that are left",
        7,
        "more tasks",
        lambda tale: tale.rest(tasks=1),
    ),
    (
        "files that are left",
        7,
        "files open",
        lambda tale: tale.rest(files=9),
    ),
    (
        "clients that are left",
        7,
        "connections of clients",
        lambda tale: tale.rest(clients=1),
    ),
    (
        "connections that are left",
        7,
        "and may have 12",
        lambda tale: tale.rest(database=13),
    ),
    (
        "transactions that are left",
        7,
        "idle in transaction",
        lambda tale: tale.history.backends.update({"idle in transaction": 1}),
    ),
    (
        "connections of servers that are gone",
        7,
        "after the servers",
        lambda tale: tale.history.backends.update({"after the servers": 1}),
    ),
    ("a traceback", 7, "in a server's log", lambda tale: tale.history.lines.append("0: Traceback")),
]


@pytest.mark.parametrize(("promise", "text", "spoil"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_a_wrong_history_is_found_out(promise: int, text: str, spoil: Spoiler) -> None:
    """Each check can fail, and says which promise was broken and how (promises 1 to 7)."""
    tale = Tale()
    spoil(tale)
    assert any(each.startswith(f"{promise}: ") and text in each for each in found(tale)), found(tale)


ALLOWED: list[tuple[str, Spoiler]] = [
    (
        "an unknown activity counts or does not",
        lambda tale: tale.trouble().calls(
            "validate", 1, 105.0, token=3, outcome="unknown", status="503 outcome_unknown"
        ),
    ),
    (
        "an unknown activity that counted",
        lambda tale: tale.trouble().calls("validate", 1, 105.0, token=3, outcome="unknown").row(ONE, count=5),
    ),
    (
        "a rotation of unknown outcome that happened",
        lambda tale: (
            tale.trouble()
            .calls("rotate", 1, 109.0, token=3, outcome="unknown")
            .row(ONE, digest=digest(9), previous=digest(3))
        ),
    ),
    (
        "an update of unknown outcome that happened",
        lambda tale: (
            tale.trouble()
            .calls("metadata", 1, 107.0, key="w1", value=8, outcome="unknown")
            .row(ONE, metadata={"by": 0, "w1": 8})
        ),
    ),
    (
        "an end of unknown outcome that happened",
        lambda tale: tale.trouble().spoil(end__outcome="unknown", end__server=1),
    ),
    (
        "a revoke of a user one of whose sessions had run out, and was not swept yet",
        lambda tale: tale.calls("revoke", 0, 123.0, session=None, count=0).row(OTHER, ended=None, reason=None),
    ),
    (
        "a close without hints, within ten seconds",
        lambda tale: tale.fault("push", 109.0, 112.0, 113.0).spoil(socket__closed=119.0, socket__ended=119.1),
    ),
    ("an eviction", lambda tale: tale.evict(closed=115.5)),
    (
        "an eviction by another server while no hints arrive, beside a create of this server's own",
        lambda tale: tale.evict(closed=120.0).fault("push", 114.0, 118.0, 118.5, server=2),
    ),
    (
        "a close right after a freeze",
        lambda tale: tale.fault("frozen", 109.9, 115.0, 115.0).spoil(socket__closed=115.9, socket__ended=116.0),
    ),
    (
        "a close after so long a wait for a processor",
        lambda tale: tale.starve(1, 2.0, at=111.0).spoil(socket__closed=112.5, socket__ended=112.6),
    ),
    (
        "a restart that was one",
        lambda tale: tale.fault("stopped", 107.5, 109.0, 109.5).spoil(
            socket__code=1012, socket__reason="restart", socket__closed=108.0, socket__ended=108.1
        ),
    ),
    (
        "a message that trouble with the store kept from counting for certain",
        lambda tale: tale.fault("store", 105.9, 106.0, 106.2).row(ONE, count=3),
    ),
]


@pytest.mark.parametrize("spoil", [each[1] for each in ALLOWED], ids=[each[0] for each in ALLOWED])
def test_what_may_be_is_allowed(spoil: Spoiler) -> None:
    """Unknown outcomes happened or did not, and a fault excuses what it can (promises 5, 6 and 7)."""
    tale = Tale()
    spoil(tale)
    assert found(tale) == []


def test_every_check_is_tried() -> None:
    """There is no check that none of the wrong histories makes fail: it might not be able to."""
    failed = set()
    for _, _, _, spoil in WRONG:
        tale = Tale()
        spoil(tale)
        told = stories(tale.history)
        failed |= {check for check in CHECKS if list(check(tale.history, told))}
    assert failed == set(CHECKS)
