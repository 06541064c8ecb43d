"""The protocol of the move, checked in every interleaving of its bounds before any of it is believed."""

from collections import deque
from dataclasses import fields, replace

import pytest

from tests.move.protocol import Safeguards, State, is_good_end, successors, violation


def explored(safeguards: Safeguards) -> tuple[dict[State, list[State]], str | None]:
    """Every state that can be reached, with those before it, up to the first violation."""
    start = State()
    before: dict[State, list[State]] = {start: []}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for after in successors(state, safeguards):
            if after in before:
                before[after].append(state)
                continue
            before[after] = [state]
            if (broken := violation(after)) is not None:
                return before, broken
            queue.append(after)
    return before, None


def test_no_interleaving_loses_a_write_or_opens_both_stores() -> None:
    """Whatever stops, whenever: one store is open at most, and every acknowledged write is in it or on its way."""
    before, broken = explored(Safeguards())
    assert broken is None
    assert len(before) > 100_000
    reaching = {state for state in before if is_good_end(state)}
    assert {state.authority for state in reaching} == {"sqlite", "postgresql"}
    queue = deque(reaching)
    while queue:
        for state in before[queue.popleft()]:
            if state not in reaching:
                reaching.add(state)
                queue.append(state)
    assert len(before) == len(reaching), "from some state no good end can be reached"


EXPECTED = {
    "postgresql_checks_token": "an acknowledged write is lost",
    "sqlite_checks_token": "an acknowledged write is lost",
    "decides_before_opening": "both stores are open",
    "folds_in_stragglers": "an acknowledged write is lost",
    "spares_unforwarded": "a legacy process does not find its own write",
}


@pytest.mark.parametrize("safeguard", [field.name for field in fields(Safeguards)])
def test_each_safeguard_is_needed(safeguard: str) -> None:
    """Without it some interleaving breaks a promise: the model can fail, and the safeguard is no decoration."""
    _, broken = explored(replace(Safeguards(), **{safeguard: False}))
    assert broken == EXPECTED[safeguard]
