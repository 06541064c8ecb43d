"""How far the clocks of the two databases are apart. Each store decides by its own which sessions have run out."""

from datetime import datetime
from typing import Final

from holdfast.move.state import MoveRefused

NOTICED_SECONDS: Final = 1.0
"""From here on `plan` says so."""
_REFUSED_SECONDS: Final = 5.0
"""From here on a cut-over is refused. A roll-back is not: it is the way out of trouble."""


def seconds_ahead_of_here(before: datetime, there: datetime, after: datetime) -> float:
    """By how many seconds another clock is ahead of this machine's, which was read before it and after it.

    Zero when it showed a time between the two: asking took longer than they can be apart then.
    """
    return max(0.0, (there - after).total_seconds()) - max(0.0, (before - there).total_seconds())


def refuse_apart(seconds: float) -> None:
    """Raise `MoveRefused` when a cut-over would let sessions live that have run out, or end others too early."""
    if abs(seconds) > _REFUSED_SECONDS:
        where = "ahead of" if seconds > 0 else "behind"
        raise MoveRefused(
            f"PostgreSQL's clock is {abs(seconds):,.1f} s {where} this machine's, and sessions would live by so much "
            "shorter or longer from then on; let both follow a time server, and try again"
        )
