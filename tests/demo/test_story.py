"""What the demonstration does where the mover says no."""

import pytest

from holdfast.demo.story import with_patience
from holdfast.move.state import MoveRefused, StoresDiffer


class Moving:
    """A step of a move that is refused so many times."""

    def __init__(self, *refusals: MoveRefused) -> None:
        self.refusals = list(refusals)

    async def __call__(self) -> None:
        """Refuse, or do it."""
        if self.refusals:
            raise self.refusals.pop(0)


async def test_what_was_called_off_is_tried_again_and_counted() -> None:
    """Demo: a busy machine may call a cut-over off twice; it is said how often."""
    assert await with_patience(Moving(), 0) == 0
    assert await with_patience(Moving(MoveRefused("no time"), MoveRefused("no time")), 0) == 2
    with pytest.raises(MoveRefused, match="third"):
        await with_patience(Moving(MoveRefused("no"), MoveRefused("no"), MoveRefused("third")), 0)


async def test_stores_that_differ_are_not_tried_again() -> None:
    """Demo: a difference ends it at once."""
    moving = Moving(StoresDiffer("they differ"))
    with pytest.raises(StoresDiffer):
        await with_patience(moving, 0)
    assert moving.refusals == []
