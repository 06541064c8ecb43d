"""A promise that was broken, and the form of a check that finds such."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.chaos.history import History
from tests.chaos.story import Story


class Violation(NamedTuple):
    """Which promise, how, and when."""

    promise: int
    text: str
    at: float = 0.0


Check = Callable[[History, dict[str, Story]], Iterator[Violation]]
"""A pure function over a history, and the same told session by session."""
