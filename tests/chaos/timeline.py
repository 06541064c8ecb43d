"""Until when something had to happen, given what was broken meanwhile."""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from tests.chaos.history import Effect, History
from tests.chaos.limits import CLOSE_WITHIN, CLOSE_WITHIN_POLLING, LOCKS_LAST, STARVED
from tests.chaos.story import Gone

_CANNOT_LOOK: Final[tuple[Effect, ...]] = ("frozen", "stopped", "store")
_TELLS_NOBODY: Final[tuple[Effect, ...]] = ("frozen", "stopped", "store")


class Due(NamedTuple):
    """When a close has to have arrived, and by which of the two rules."""

    at: float
    rule: Literal["push", "polling"]


def had_trouble(history: History, server: int, begin: float, end: float) -> bool:
    """Whether store calls of a server may have failed between two moments: a fault, or too little of the machine."""
    return bool(history.disturbed(_CANNOT_LOOK, server, begin, end)) or history.waited(server, begin, end) > STARVED


def may_be_locked_out(history: History, begin: float, end: float) -> bool:
    """Whether a row may have been locked: by any server that stood still, or went silent, in a transaction."""
    return any(
        window.effect in _CANNOT_LOOK and window.begun < end and window.recovered > begin - LOCKS_LAST
        for window in history.windows
    )


def overlap(history: History, effects: Iterable[Effect], server: int, begin: float, end: float) -> float:
    """For how long between two moments a server was disturbed in these ways."""
    covered = 0.0
    reached = begin
    for window in sorted(history.disturbed(effects, server, begin, end), key=lambda each: each.begun):
        first, last = max(reached, window.begun), min(end, window.recovered)
        if last > first:
            covered += last - first
            reached = last
    return covered


def spent(history: History, server: int, since: float, seconds: float, effects: tuple[Effect, ...]) -> float:
    """The moment at which so many seconds had passed outside of such disturbances."""
    until = since + seconds
    while (needed := since + seconds + overlap(history, effects, server, since, until)) > until + 1e-6:
        until = needed
    return until


def calm(history: History, server: int, since: float, seconds: float, effects: tuple[Effect, ...]) -> float:
    """The end of the first stretch of so many seconds, from a moment on, without such a disturbance."""
    begin = since
    while windows := history.disturbed(effects, server, begin, begin + seconds):
        begin = max(window.recovered for window in windows)
        if begin == float("inf"):
            break
    return begin + seconds


def due_after_end(history: History, server: int, gone: Gone, since: float) -> Due:
    """Until when a socket on a server has to be closed after an end was acknowledged (promise 6).

    Within a second if hints reach that server, from before the end was asked for on; after a freeze within a second
    of running again. Otherwise within ten in which it runs and reaches the store. The server that made the end needs
    no hint, but it has to be able to send one.
    """
    local = gone.server == server
    effects: tuple[Effect, ...] = ("stopped", "store") if local else ("stopped", "store", "push")
    soon = calm(history, server, since, CLOSE_WITHIN, ("frozen",))
    heard = not history.disturbed(effects, server, gone.asked, soon)
    told = local or not history.disturbed(_TELLS_NOBODY, gone.server, gone.asked, gone.known + CLOSE_WITHIN)
    if heard and told:
        return Due(soon, "push")
    return Due(spent(history, server, since, CLOSE_WITHIN_POLLING, _CANNOT_LOOK), "polling")


def due_after_expiry(history: History, server: int, expiry: float, since: float) -> Due:
    """The same when the session ran out by itself: every server knows its time, and asks the store when it has come.

    A server that could not ask when the socket was opened, or just before, does not know the time yet.
    """
    soon = calm(history, server, since, CLOSE_WITHIN, ("frozen",))
    if not history.disturbed(("stopped", "store"), server, min(expiry, since) - 2 * CLOSE_WITHIN, soon):
        return Due(soon, "push")
    return Due(spent(history, server, since, CLOSE_WITHIN_POLLING, _CANNOT_LOOK), "polling")


def due_after_unknown(history: History, server: int, since: float) -> Due:
    """The same when nobody was told of the end: as if no hint had reached that server."""
    return Due(spent(history, server, since, CLOSE_WITHIN_POLLING, _CANNOT_LOOK), "polling")
