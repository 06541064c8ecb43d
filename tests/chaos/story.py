"""A history told session by session: who used it when, what may have ended it, and what became of it."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.history import Call, CallKind, Effect, History, Row, Socket
from tests.chaos.limits import CLOCKS, SHORTEST_TIMEOUT, UNKNOWN_TAIL

BY_TOKEN: Final[tuple[CallKind, ...]] = ("validate", "current", "rotate", "end_own", "ticket")
BY_ID: Final[tuple[CallKind, ...]] = ("extend", "metadata", "end")
MAY_BE_DONE: Final = ("ok", "unknown", "hung")
_NO_STORE: Final[tuple[Effect, ...]] = ("store", "stopped", "frozen")


@dataclass(frozen=True, slots=True)
class Use:
    """That somebody asked for a session, and was told that it lives or that it does not."""

    what: str
    begun: float
    ended: float
    alive: bool
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """What is one activity for certain, or perhaps: then it may still happen until `ended`."""

    begun: float
    ended: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """That an end was acknowledged, and from when on everybody has to know."""

    asked: float
    known: float
    server: int
    call: int
    found: bool
    """Whether it was surely this session that was found alive and ended, and not only others of its user."""


@dataclass(slots=True)
class Story:
    """One session."""

    id: str
    user: str | None = None
    row: Row | None = None
    created: Call | None = None
    uses: list[Use] = field(default_factory=list)
    touches: list[Touch] = field(default_factory=list)
    counted: list[Call] = field(default_factory=list)
    """The calls whose answer said the `request_count` after them."""
    gone: list[Gone] = field(default_factory=list)
    may_end: list[Call] = field(default_factory=list)
    """Every call that may have revoked it."""
    rotations: list[Call] = field(default_factory=list)
    extensions: list[Call] = field(default_factory=list)
    updates: list[Call] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    tokens: dict[int, bytes] = field(default_factory=dict)
    """The digest of every token that was issued for it, by number."""

    def known_gone(self) -> float:
        """From when on it is known to be ended by somebody; never if nobody was told so."""
        return min((gone.known for gone in self.gone), default=float("inf"))

    def known_expiry(self, before: float) -> float:
        """The latest expiry that anybody was told before a moment."""
        told = [
            call.expires_at
            for call in (*self.extensions, *self.counted, *([self.created] if self.created else []))
            if call.outcome == "ok" and call.ended < before and call.expires_at is not None
        ]
        return max(told, default=float("-inf"))

    def known_activity(self, before: float) -> float:
        """The latest moment at which somebody was surely active, as was known before a moment."""
        created = self.created.begun if self.created is not None and self.created.ended < before else float("-inf")
        return max((touch.begun for touch in self.touches if touch.sure and touch.ended < before), default=created)

    def possible_activity(self, before: float) -> float:
        """The latest moment before another one at which somebody may have been active."""
        moments = [min(touch.ended, before) for touch in self.touches if touch.begun < before]
        if self.created is not None:
            moments.append(min(self.created.ended, before))
        return max(moments, default=float("inf"))

    def due(self, idle: float) -> float:
        """When it ran out, or would have, as the last row says."""
        return float("inf") if self.row is None else min(self.row.expires, self.row.active + idle)

    def was_rotated(self, token: int, by: float, *, surely: bool) -> bool:
        """Whether a token was, or may have been, replaced by a moment."""
        return any(
            call.token == token
            and (
                call.outcome == "ok" and call.ended < by if surely else call.outcome in MAY_BE_DONE and call.begun < by
            )
            for call in self.rotations
        )


def latest(call: Call) -> float:
    """Until when a call may have had its effect: its answer, and a while longer when that left it open."""
    return call.ended if call.outcome == "ok" else call.ended + UNKNOWN_TAIL


def stories(history: History) -> dict[str, Story]:
    """Every session that a client knows or that is stored, with its row in the last snapshot."""
    rows = history.snapshots[-1].rows if history.snapshots else {}
    told: dict[str, Story] = {}
    for call in history.calls:
        if call.kind == "create" and call.session is not None:
            told[call.session] = Story(call.session, call.user, created=call)
    for id, row in rows.items():
        told.setdefault(id, Story(id, row.user)).row = row
    for call in history.calls:
        if call.session is not None and (story := told.get(call.session)) is not None:
            _tell(story, call)
    for token in history.tokens:
        if (story := told.get(token.session)) is not None:
            story.tokens[token.number] = token.digest
    for socket in history.sockets:
        if (story := told.get(socket.session)) is not None:
            story.sockets.append(socket)
            story.uses += _uses_of_socket(socket)
            story.touches += _touches_of_socket(history, socket)
    _add_ends(history, told)
    return told


def _tell(story: Story, call: Call) -> None:
    if call.outcome in ("ok", "refused") and call.kind in (*BY_TOKEN, *BY_ID):
        alive = call.outcome == "ok"
        story.uses.append(Use(call.kind, call.begun, call.ended, alive, call.token if call.kind in BY_TOKEN else None))
    if call.kind == "end_device" and call.outcome in ("ok", "refused"):
        # A 404 is about the other one: this one was good enough to ask for it.
        story.uses.append(Use(call.kind, call.begun, call.ended, not call.status.startswith("401"), call.token))
    if call.kind == "validate":
        if call.outcome == "ok":
            story.touches.append(Touch(call.begun, call.ended, sure=True))
        elif call.outcome in MAY_BE_DONE:
            story.touches.append(Touch(call.begun, latest(call), sure=False))
    if call.kind in ("validate", "current") and call.outcome == "ok":
        story.counted.append(call)
    if call.kind == "rotate":
        story.rotations.append(call)
    if call.kind == "extend":
        story.extensions.append(call)
    if call.kind == "metadata":
        story.updates.append(call)


def _uses_of_socket(socket: Socket) -> Iterator[Use]:
    if socket.opened is not None:
        yield Use(f"handshake by {socket.way}", socket.begun, socket.opened, alive=True, token=socket.token)
        for message in socket.messages:
            if message.echoed is not None:
                yield Use("message", message.sent, message.echoed, alive=True)
    elif socket.status.startswith("401") and socket.token is not None:
        yield Use(f"handshake by {socket.way}", socket.begun, socket.answered, alive=False, token=socket.token)


def _touches_of_socket(history: History, socket: Socket) -> Iterator[Touch]:
    """The handshake by token and every message is one activity.

    The guard lets one pass whose validate had an unknown outcome, once it has asked whether the session lives. The
    client cannot know, so what passes is a sure activity only if its server had no trouble with the store meanwhile,
    and it was quicker than any time-out.
    """
    soon = history.rules.deadline * SHORTEST_TIMEOUT

    def sure(begun: float, ended: float) -> bool:
        return ended - begun < soon and not history.disturbed(_NO_STORE, socket.server, begun, ended)

    if socket.token is not None:
        if socket.opened is not None:
            yield Touch(socket.begun, socket.opened, sure(socket.begun, socket.opened))
        elif not socket.status.startswith("401") or not sure(socket.begun, socket.answered):
            yield Touch(socket.begun, socket.answered + UNKNOWN_TAIL, sure=False)
    for message in socket.messages:
        if message.echoed is not None:
            yield Touch(message.sent, message.echoed, sure(message.sent, message.echoed))
        else:
            yield Touch(message.sent, socket.ended + UNKNOWN_TAIL, sure=False)


def _add_ends(history: History, told: dict[str, Story]) -> None:
    of_user: dict[str | None, list[Story]] = defaultdict(list)
    for story in told.values():
        of_user[story.user].append(story)
    for call in history.calls:
        if call.outcome not in MAY_BE_DONE:
            continue
        if call.kind in ("end", "end_own"):
            ended = [call.session]
        elif call.kind == "end_device":
            ended = [call.target]
        elif call.kind == "revoke":
            ended = [each.id for each in of_user[call.user] if each.id != call.target]
        else:
            continue
        for story in [told[id] for id in ended if id is not None and id in told]:
            story.may_end.append(call)
            before = story.created is not None and story.created.ended < call.begun
            if call.outcome == "ok" and (call.kind != "revoke" or before):
                story.gone.append(Gone(call.begun, call.ended, call.server, call.number, call.kind != "revoke"))
    made_by = {call.number: call for call in history.calls if call.kind == "create"}
    for of_one in of_user.values():
        rows = sorted((story.row for story in of_one if story.row is not None), key=lambda row: row.created)
        for story in of_one:
            if story.row is not None and story.row.reason == "evicted" and story.row.ended is not None:
                _add_eviction(story, story.row.ended, rows, made_by)


def _add_eviction(story: Story, ended: float, rows: list[Row], made_by: dict[int, Call]) -> None:
    """It was ended by the create whose row came next, of the same user: both happen under the user's lock."""
    after = [row for row in rows if row.created >= ended]
    maker = made_by.get(after[0].metadata.get("by", -1)) if after else None
    if maker is not None and maker.outcome == "ok":
        story.gone.append(Gone(maker.begun, maker.ended, maker.server, maker.number, found=True))


def causes_of_eviction(story: Story, creates: list[Call]) -> list[Call]:
    """The creates of its user during which it was ended."""
    if story.row is None or story.row.ended is None:
        return []
    return [
        call
        for call in creates
        if call.session != story.id
        and call.outcome in MAY_BE_DONE
        and call.begun - CLOCKS <= story.row.ended <= latest(call) + CLOCKS
    ]
