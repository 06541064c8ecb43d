"""A dry run knows where a move stands: whatever it foresees is what is done, and nothing else."""

from dataclasses import replace
from typing import get_args
from uuid import uuid4

import pytest

from holdfast.move.foresight import Goal, steps_ahead
from holdfast.move.state import LEGAL, Look, MoveRefused, Phase, PostgresqlState, SqliteState
from holdfast.sessions.store import Authority

STORE = uuid4()
LITE = SqliteState("here", STORE, None, None, 0, 0, 0, whole=True)
POST = PostgresqlState("there", None, uuid4(), STORE)


def refused(goal: Goal, look: Look) -> str | None:
    """Why a command is refused; `None` when it is not."""
    try:
        steps_ahead(goal, look, backups=True)
    except MoveRefused as refusal:
        return str(refusal)
    return None


@pytest.mark.parametrize("goal", get_args(Goal))
def test_every_state_has_an_answer(goal: Goal) -> None:
    """Foresight: from each state that can be, each command has steps, nothing to do, or a refusal with its remedy."""
    for authority, phase in LEGAL:
        look = Look(replace(LITE, authority=authority), replace(POST, phase=phase))
        refusal = refused(goal, look)
        if refusal is None:
            steps = steps_ahead(goal, look, backups=True)
            assert len(set(steps)) == len(steps)
            assert all(step and "backup" not in step for step in steps_ahead(goal, look, backups=False))
        else:
            assert any(mark in refusal for mark in (";", ":"))


def test_what_was_begun_comes_first() -> None:
    """Foresight: a cut-over that was interrupted is brought to an end before anything else, or called off."""
    look = Look(replace(LITE, authority="pending"), replace(POST, phase="cutting"))
    assert steps_ahead("cutover", look, backups=True)[0].startswith("bring the cut-over")
    assert steps_ahead("abort", look, backups=True)[0].startswith("call the cut-over off")


def test_nothing_is_ended_that_has_not_come_to_rest() -> None:
    """Foresight: a dry run of `complete` or `abort` is refused in the midst of a decision, as the command would be."""
    states: tuple[tuple[Goal, Authority, Phase], ...] = (
        ("complete", "there", "cutting"),
        ("complete", "there", "returning"),
        ("abort", "there", "returned"),
        ("abort", "there", "completing"),
    )
    for goal, authority, phase in states:
        look = Look(replace(LITE, authority=authority), replace(POST, phase=phase))
        assert "bring that to its end first" in (refused(goal, look) or "")
