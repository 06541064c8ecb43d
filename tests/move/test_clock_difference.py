"""Two clocks, of which one was read before the other and after it."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.move.clock_difference import seconds_ahead_of_here

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(("there", "apart"), [(-3.0, -3.0), (0.0, 0.0), (5.0, 0.0), (8.0, 0.0), (9.5, 1.5)])
def test_what_asking_took_is_no_difference(there: float, apart: float) -> None:
    """Asked for eight seconds on a busy machine, a clock that shows any time within them is right."""
    before, after = AT, AT + timedelta(seconds=8)
    assert seconds_ahead_of_here(before, AT + timedelta(seconds=there), after) == apart
