"""Checks of what the clients were told: promises 2 to 5 and 7, call by call."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from tests.chaos.history import Call, Effect, History, Socket
from tests.chaos.limits import (
    CALL,
    CLOCKS,
    EXPIRY_WITHIN,
    HANDSHAKE_CALLS,
    MESSAGE_CALLS,
    MOSTLY_SERVED,
    OBSERVING,
    STORE_CALLS,
    TICKETS_LAST,
    UNKNOWN_TAIL,
)
from tests.chaos.story import Story, Use
from tests.chaos.timeline import had_trouble, may_be_locked_out, overlap
from tests.chaos.violation import Violation

_STANDS_STILL: Final[tuple[Effect, ...]] = ("frozen", "stopped")


def final(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promises 2 and 4: nothing that began after an acknowledged end, or after the expiry, found the session alive."""
    for story in told.values():
        gone, due = story.known_gone(), story.due(history.rules.idle)
        row = story.row
        for use in story.uses:
            if not use.alive:
                continue
            said = f"session {story.id}: a {use.what} at {use.begun:.3f} found it alive"
            if use.begun > gone:
                yield Violation(2, f"{said} after its end was acknowledged at {gone:.3f}", use.begun)
            elif row is not None and row.ended is not None and use.begun > row.ended + UNKNOWN_TAIL:
                yield Violation(2, f"{said} long after it had ended", use.begun)
            if use.token is not None and story.was_rotated(use.token, use.begun, surely=True):
                yield Violation(2, f"{said} with a token that was replaced", use.begun)
            if use.begun > due + EXPIRY_WITHIN + CLOCKS:
                yield Violation(4, f"{said} {use.begun - due:.3f} s after its time", use.begun)
            idle_from = story.possible_activity(use.begun)
            if use.begun > idle_from + history.rules.idle + EXPIRY_WITHIN + CLOCKS:
                yield Violation(4, f"{said} {use.begun - idle_from:.3f} s after the last activity", use.begun)


def present(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promises 1 and 4: nothing is refused before its time that was not ended, with a token that was not replaced."""
    for story in told.values():
        for use in story.uses:
            if not use.alive and not _may_be_dead(history, story, use):
                yield Violation(4, f"session {story.id}: a {use.what} at {use.begun:.3f} did not find it", use.begun)
        for use in _tickets_refused(story):
            if not _may_be_dead(history, story, use):
                yield Violation(4, f"session {story.id}: the {use.what} at {use.begun:.3f} did not open it", use.begun)


def _tickets_refused(story: Story) -> Iterator[Use]:
    """Tickets that opened nothing. One that met a fault may have been used up by that."""
    attempts: dict[int, list[Socket]] = defaultdict(list)
    for socket in story.sockets:
        if socket.ticket is not None:
            attempts[socket.ticket].append(socket)
    for ticket, sockets in attempts.items():
        if all(socket.opened is None and socket.status == "401" for socket in sockets):
            begun, ended = sockets[0].begun, max(socket.answered for socket in sockets)
            if ended - begun < TICKETS_LAST:
                yield Use(f"ticket {ticket}", begun, ended, alive=False)


def _may_be_dead(history: History, story: Story, use: Use) -> bool:
    by = use.ended + CLOCKS
    if story.row is not None and story.row.ended is not None and story.row.ended <= by:
        return True
    if story.known_expiry(use.begun) <= by or story.known_activity(use.begun) + history.rules.idle <= by:
        return True
    return use.token is not None and story.was_rotated(use.token, use.ended, surely=False)


def one_successor(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 2: of any number of rotations of one token one succeeds."""
    for story in told.values():
        times = Counter(call.token for call in story.rotations if call.outcome == "ok")
        for token, count in times.items():
            if count > 1:
                yield Violation(2, f"session {story.id}: token {token} was replaced {count} times")


def issued(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promise 3: what was never issued opens nothing, and a ticket opens one socket."""
    for call in history.calls:
        if call.kind == "forged" and call.outcome not in ("refused", "failed", "unknown"):
            yield Violation(3, f"call {call.number}, {call.key}, was answered {call.outcome} {call.status}", call.begun)
    tickets = Counter(socket.ticket for socket in history.sockets if socket.opened is not None and socket.ticket)
    for ticket, count in tickets.items():
        if count > 1:
            yield Violation(3, f"ticket {ticket} opened {count} sockets")


def own_answer(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promise 7: every answer, and every message, belongs to whoever asked."""
    for call in history.calls:
        if call.answered is not None and call.answered != call.session:
            yield Violation(
                7, f"call {call.number} asked for {call.session} and was answered {call.answered}", call.ended
            )
    for socket in history.sockets:
        if socket.strange:
            yield Violation(7, f"socket {socket.number} was sent what it had not said: {len(socket.strange)} messages")


def counted(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 5: acknowledged ≤ `request_count` ≤ acknowledged + unknown, in the end and in every answer."""
    for story in told.values():
        begun = sorted(touch.begun for touch in story.touches)
        done = sorted(touch.ended for touch in story.touches if touch.sure)
        for call in story.counted:
            if call.count is None:
                continue
            # Its own activity is among the acknowledged ones only from its answer on.
            low = bisect_left(done, call.begun) + (call.kind == "validate")
            high = bisect_left(begun, call.ended)
            if not low <= call.count <= high:
                said = f"call {call.number} was told of {call.count} activities, not {low} to {high}"
                yield Violation(5, f"session {story.id}: {said}", call.ended)
        if story.row is not None and not len(done) <= story.row.count <= len(begun):
            said = f"{story.row.count} activities are stored, not {len(done)} to {len(begun)}"
            yield Violation(5, f"session {story.id}: {said}")


def active(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 5: the number of active sessions lies between those that surely and those that perhaps lived then."""
    for call in history.calls:
        if call.kind == "stats" and call.outcome == "ok" and call.count is not None:
            low = sum(_lived(history, story, call) for story in told.values())
            high = sum(_perhaps_lived(history, story, call) for story in told.values())
            if not low <= call.count <= high:
                said = f"call {call.number} counted {call.count} active sessions, not {low} to {high}"
                yield Violation(5, said, call.ended)
    for server, count in enumerate(history.final_active):
        if count != history.final_live:
            yield Violation(5, f"server {server} counts {count} active sessions in the end, not {history.final_live}")


def _lived(history: History, story: Story, call: Call) -> bool:
    """Whether a session surely lived as long as a call lasted."""
    row = story.row
    if row is None or (row.ended is not None and row.ended <= call.ended + CLOCKS):
        return False
    if story.due(history.rules.idle) <= call.ended + CLOCKS:
        return False
    known = story.created is not None and story.created.ended < call.begun
    until = min(story.known_expiry(call.begun), story.known_activity(call.begun) + history.rules.idle)
    return known and until > call.ended + CLOCKS


def _perhaps_lived(history: History, story: Story, call: Call) -> bool:
    """Whether a session may have lived at some moment of a call."""
    row = story.row
    if row is None or row.created > call.ended + CLOCKS or story.known_gone() < call.begun:
        return False
    if row.ended is not None and row.ended + UNKNOWN_TAIL < call.begun:
        return False
    return story.due(history.rules.idle) > call.begun - CLOCKS


def in_time(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promise 7: every call ends by its deadline, in one of the ways there are."""
    for call in history.calls:
        allowed = STORE_CALLS[call.kind] * history.rules.deadline + CALL
        yield from _late(history, f"call {call.number}, {call.kind},", call.server, call.begun, call.ended, allowed)
        if call.outcome == "fault":
            yield Violation(7, f"call {call.number}, {call.kind}, was answered {call.status}", call.ended)
    for socket in history.sockets:
        name = f"socket {socket.number}"
        allowed = HANDSHAKE_CALLS * history.rules.deadline + CALL
        yield from _late(history, f"the handshake of {name}", socket.server, socket.begun, socket.answered, allowed)
        allowed = MESSAGE_CALLS * history.rules.deadline + CALL
        for message in socket.messages:
            # A close frame is an answer too; and who leaves does not wait for one.
            over = min(each for each in (message.echoed, socket.closed, socket.left, socket.ended) if each is not None)
            yield from _late(history, f"a message on {name}", socket.server, message.sent, over, allowed)


def served(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promise 7: while nothing is broken nothing fails. A server that refuses everybody would keep all others."""
    calm: Counter[bool] = Counter()
    for call in history.calls:
        fails = call.outcome in ("failed", "unknown")
        if not had_trouble(history, call.server, call.begun - history.rules.deadline, call.ended):
            calm[fails] += 1
        if fails:
            what = f"call {call.number}, {call.kind}, on server {call.server} had {call.status}"
            yield from _without_cause(history, what, call.server, call.begun, call.ended, call.status)
    for socket in history.sockets:
        if socket.opened is None and socket.status != "401":
            what = f"the handshake of socket {socket.number} on server {socket.server} had {socket.status}"
            yield from _without_cause(history, what, socket.server, socket.begun, socket.answered, socket.status)
    if calm[False] < MOSTLY_SERVED * calm.total():
        yield Violation(7, f"of {calm.total()} calls to servers without trouble only {calm[False]} did not fail")


def _without_cause(
    history: History, what: str, server: int, begun: float, ended: float, status: str
) -> Iterator[Violation]:
    since = begun - history.rules.deadline
    if status.startswith("503"):
        excused = had_trouble(history, server, since, ended) or may_be_locked_out(history, since, ended)
    else:
        # A connection is lost, or refused, by a server that was killed or stood still, and by no other.
        excused = bool(history.disturbed(_STANDS_STILL, server, begun - CALL, ended))
    if not excused:
        yield Violation(7, f"{what}, and nothing was broken", ended)


def _late(history: History, what: str, server: int, begun: float, ended: float, allowed: float) -> Iterator[Violation]:
    took = ended - begun
    if took <= allowed:
        return
    if ended == float("inf"):
        yield Violation(7, f"{what} on server {server} never ended", begun)
        return
    allowed += overlap(history, _STANDS_STILL, server, begun, ended) + OBSERVING
    if took > allowed + history.waited(server, begun, ended):
        yield Violation(7, f"{what} on server {server} took {took:.3f} s, and may take {allowed:.3f}", begun)
