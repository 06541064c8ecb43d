"""Checks of what the sockets saw: promise 6, and promise 2 where it is about them."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.chaos.history import History, Socket
from tests.chaos.limits import CALL, CLOCKS, EXPIRY_WITHIN, MESSAGE_CALLS, OBSERVING, UNKNOWN_TAIL, UNSEEN_WITHIN
from tests.chaos.story import Story
from tests.chaos.timeline import Due, due_after_end, due_after_expiry, due_after_unknown, had_trouble
from tests.chaos.violation import Violation

CODE_OF: Final = {"expired": 4401, "idle": 4401, "revoked": 4403, "evicted": 4409}
_ENDS: Final = frozenset(CODE_OF.values())


class Close(NamedTuple):
    """That the end of a session had to close a socket, and did."""

    socket: Socket
    since: float
    """From when on: the acknowledgement of the end, the expiry, or the opening of a socket that came after."""
    due: Due
    took: float
    """Seconds from then to the close frame, or to the end of the connection."""


def closes(history: History, told: dict[str, Story]) -> Iterator[Close]:
    """Every socket whose session is known to have ended while it was open, and that nobody else closed before."""
    for story in told.values():
        for socket in story.sockets:
            if (found := _close(history, story, socket)) is not None:
                yield found


def _close(history: History, story: Story, socket: Socket) -> Close | None:
    row = story.row
    if socket.opened is None or row is None:
        return None
    over = socket.ended if socket.closed is None else socket.closed
    dues: list[tuple[float, Due]] = []
    if row.reason in (None, "expired", "idle"):
        expiry = story.due(history.rules.idle)
        since = max(expiry, socket.opened)
        dues.append((since, due_after_expiry(history, socket.server, expiry, since)))
    elif row.ended is not None:
        # Later calls that found it ended were acknowledged too; what counts is the one that ended it.
        enders = [gone for gone in story.gone if gone.asked - CLOCKS <= row.ended <= gone.known + CLOCKS]
        for gone in enders:
            since = max(gone.known, socket.opened)
            dues.append((since, due_after_end(history, socket.server, gone, since)))
        if not enders:
            # By a call of unknown outcome: it may have been done as late as that.
            since = max(row.ended + UNKNOWN_TAIL, socket.opened)
            dues.append((since, due_after_unknown(history, socket.server, since)))
    if not dues:
        return None
    since, due = max(dues, key=lambda each: each[1].at)
    if socket.left is not None and socket.left < due.at:
        return None
    return Close(socket, since, due, over - since)


def closed_in_time(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 6: none is missing, and none is late."""
    for socket, since, due, took in closes(history, told):
        allowed = due.at - since + OBSERVING
        if took <= allowed:
            continue
        if took == float("inf"):
            yield Violation(6, f"socket {socket.number} of ended session {socket.session} was never closed", since)
        elif took > allowed + history.waited(socket.server, since, since + took):
            said = f"socket {socket.number} on server {socket.server} was closed {took:.3f} s after the end of"
            yield Violation(6, f"{said} session {socket.session} ({due.rule}: {allowed:.3f} s)", since)


def closed_rightly(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 6: the code says why, and there is no close without a reason."""
    for story in told.values():
        for socket in story.sockets:
            if socket.opened is not None and (wrong := _wrong(history, story, socket)) is not None:
                said = f"socket {socket.number} on server {socket.server} closed with {socket.code} {socket.reason}"
                yield Violation(6, f"{said}: {wrong}", socket.closed or socket.ended)


def _wrong(history: History, story: Story, socket: Socket) -> str | None:
    """Why a socket should not have closed as it did."""
    at = socket.ended if socket.closed is None else socket.closed
    if at == float("inf"):
        return None
    row = story.row
    if socket.code in _ENDS and row is not None:
        over = story.due(history.rules.idle) if row.ended is None else row.ended
        reason = row.reason
        if reason in (None, "expired", "idle"):
            over = story.due(history.rules.idle)
            reason = "expired" if row.expires <= row.active + history.rules.idle else "idle"
        if over > at + CLOCKS:
            return f"its session ended {over - at:.3f} s later"
        return None if (CODE_OF[reason], reason) == (socket.code, socket.reason) else f"its session ended as {reason}"
    if socket.left is not None and socket.left <= at:
        return None
    if socket.code == 1012:
        return None if history.disturbed(("stopped",), socket.server, at - CALL, at) else "nobody stopped the server"
    if socket.code == 1013:
        since = at - MESSAGE_CALLS * history.rules.deadline - CALL
        return None if had_trouble(history, socket.server, since, at) else "the server had no trouble"
    if socket.code == 1006:
        return None if history.disturbed(("stopped",), socket.server, at - CALL, at) else "nobody killed the server"
    return "there is no cause for that code"


def silent(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promises 2 and 6: nothing is delivered once it must be over, also after a freeze, and nothing after the close."""
    dues = {close.socket.number: close for close in closes(history, told)}
    for story in told.values():
        gone, expiry = story.known_gone(), story.due(history.rules.idle)
        over = min(gone, expiry)
        for socket in story.sockets:
            if socket.late_bytes:
                yield Violation(2, f"socket {socket.number} was sent {socket.late_bytes} bytes after its close frame")
            for message in socket.messages:
                # That a message sent after the end has no echo is held by the uses of the session.
                if message.echoed is None or message.echoed <= over:
                    continue
                said = f"socket {socket.number} of session {story.id}, ended at {over:.3f}, had an echo"
                extra = OBSERVING + history.waited(socket.server, over, message.echoed)
                if message.echoed > over + UNSEEN_WITHIN + extra:
                    yield Violation(2, f"{said} at {message.echoed:.3f}", message.echoed)
                close = dues.get(socket.number)
                if close is not None and message.echoed > close.due.at + extra:
                    yield Violation(6, f"{said} at {message.echoed:.3f}, when it had to be closed", message.echoed)
                if message.sent > expiry + EXPIRY_WITHIN + CLOCKS:
                    yield Violation(4, f"{said} of what was sent at {message.sent:.3f}", message.sent)
