"""The checker: every promise from 1 to 7 held against a history. Pure functions: a history in, violations out.

Of one session little can happen, and in order: it is not there, it lives, it is over, and that is final; its expiry
and its count only grow. So nothing is searched for. Every answer is held against what had been acknowledged before it
was asked for, and against the stored rows. What was unknown may have happened or not, once.
"""

from typing import Final

from tests.chaos.check_answers import (
    active,
    counted,
    final,
    in_time,
    issued,
    one_successor,
    own_answer,
    present,
    served,
)
from tests.chaos.check_rest import clean_logs, nothing_left, one_clock, recovered
from tests.chaos.check_sockets import closed_in_time, closed_rightly, silent
from tests.chaos.check_stored import capped, caused, durable
from tests.chaos.history import History
from tests.chaos.story import stories
from tests.chaos.violation import Check, Violation

CHECKS: Final[tuple[Check, ...]] = (
    durable,
    caused,
    capped,
    final,
    present,
    one_successor,
    issued,
    own_answer,
    counted,
    active,
    in_time,
    served,
    closed_in_time,
    closed_rightly,
    silent,
    nothing_left,
    recovered,
    clean_logs,
    one_clock,
)


def violations(history: History) -> list[Violation]:
    """Everything that is wrong, by time."""
    told = stories(history)
    return sorted((each for check in CHECKS for each in check(history, told)), key=lambda each: each.at)
