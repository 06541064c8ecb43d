"""Checks of what is left when everything is over, and of what the servers wrote down meanwhile."""

from collections.abc import Iterator
from typing import Final

from tests.chaos.history import History
from tests.chaos.limits import CLOCKS, OBSERVING, READY_WITHIN
from tests.chaos.story import Story
from tests.chaos.violation import Violation

_IN_TRANSACTION: Final = "idle in transaction"


def nothing_left(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promise 7: no task, file or connection more than before, on no server and in no database."""
    before = {rest.server: rest for rest in history.before}
    for rest in history.after:
        base, name = before[rest.server], f"server {rest.server}"
        more = {task: count - base.tasks.get(task, 0) for task, count in rest.tasks.items()}
        if grown := {task: count for task, count in more.items() if count > 0}:
            yield Violation(7, f"{name} has more tasks than in the beginning: {grown}")
        if rest.files > base.files:
            yield Violation(7, f"{name} has {rest.files} files open, and had {base.files} in the beginning")
        if rest.clients > 0:
            yield Violation(7, f"{name} has {rest.clients} connections of clients that are gone")
        if rest.database > history.rules.connections:
            yield Violation(7, f"{name} has {rest.database} connections, and may have {history.rules.connections}")
    for state, count in history.backends.items():
        if state.startswith(_IN_TRANSACTION) or state == "after the servers":
            yield Violation(7, f"PostgreSQL has {count} connections left: {state}")


def recovered(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promise 7: when a fault is over, the servers serve again, and are told of ends again, without help."""
    for window in history.windows:
        others = [each for each in history.windows if each is not window and each.servers & window.servers]
        during = [each.ended for each in others if each.begun < window.recovered and each.ended > window.ended]
        since = max((window.ended, *(ended for ended in during if ended <= window.recovered)))
        took = window.recovered - since
        waited = max((history.waited(server, since, window.recovered) for server in window.servers), default=0.0)
        if took > READY_WITHIN + OBSERVING + waited:
            yield Violation(7, f"{took:.1f} s after {window.kind} was over, not all servers served", window.ended)


def clean_logs(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Promises 7 and 10: no log has a traceback, a forgotten failure or a token."""
    for line in history.lines:
        yield Violation(7, f"in a server's log: {line}")


def one_clock(history: History, _: dict[str, Story]) -> Iterator[Violation]:
    """Not a promise of the product: without it the run proves nothing about times."""
    if history.clock_error > CLOCKS:
        yield Violation(4, f"the machine's clock was set during the run, by {history.clock_error:.3f} s: run again")
