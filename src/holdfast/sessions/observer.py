"""What may be counted and timed from outside: one class of empty methods, and plain numbers beside it.

The domain knows no metrics library. Whatever shows numbers or traces is an `Observer`; without one, every event costs
one call of an empty function, and none of them is made for a single validate: those are counted in `Counts`.
"""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from holdfast.sessions.session import End

log = logging.getLogger("holdfast.sessions")


class Counts:
    """How often the manager did the two things that are too frequent for a call of their own."""

    __slots__ = ("created", "malformed", "not_live", "validated")

    def __init__(self) -> None:
        """Nothing happened yet."""
        self.created = 0
        self.validated = 0
        self.malformed = 0
        """Refused without asking the store: a string that nobody issued."""
        self.not_live = 0
        """Refused because no live session has it."""


class Load(NamedTuple):
    """What a store has in hand at one moment."""

    queued: int
    """Calls that wait to be sent with others."""
    in_flight: int
    """Batches that were sent and not answered yet."""
    connections: int
    """How many connections there may be."""
    in_use: int
    """How many of them are lent out; PostgreSQL's lanes keep theirs."""


class Observer:
    """Told of what happens; does nothing with it. A subclass says what it wants to know.

    Called in the event loop, between the answer of the database and that of the caller: a method must not wait, and
    must not raise. An error is an object of `errors` or the reason for one; its text is not for showing.
    """

    traces = False
    """Whether `context` is asked for each joined call, which costs every one of them."""

    def context(self) -> object:
        """What to remember of the caller of a joined call, handed to `joined` later."""
        return None

    def joined(
        self, kind: str, calls: int, waited: float, seconds: float, error: Exception | None, contexts: Sequence[object]
    ) -> None:
        """A batch of so many calls came back after `seconds`; the first of them had waited for `waited` seconds.

        `contexts` is empty unless it `traces`. With an error the batch may be sent again.
        """

    def called(self, kind: str, seconds: float, error: BaseException | None) -> None:
        """A call of its own ended, after `seconds`; an error is what its caller got."""

    def failed(self, error: Exception) -> None:
        """A caller was given this error."""

    def ended(self, ends: Sequence[End]) -> None:
        """This process ended these sessions, or noted that they had run out."""

    def swept(self, marked: int, deleted: int, seconds: float) -> None:
        """One pass of the sweep is done."""

    def sweep_failed(self) -> None:
        """One pass of the sweep stopped early."""


NOBODY: Final = Observer()


class Guarded(Observer):
    """Passes everything on, and keeps what an observer raises from those who only wanted their answer."""

    def __init__(self, observer: Observer) -> None:
        """The one to pass on to."""
        self._observer = observer
        self.traces = observer.traces

    def context(self) -> object:
        """See `Observer`."""
        with _kept():
            return self._observer.context()
        return None

    def joined(
        self, kind: str, calls: int, waited: float, seconds: float, error: Exception | None, contexts: Sequence[object]
    ) -> None:
        """See `Observer`."""
        with _kept():
            self._observer.joined(kind, calls, waited, seconds, error, contexts)

    def called(self, kind: str, seconds: float, error: BaseException | None) -> None:
        """See `Observer`."""
        with _kept():
            self._observer.called(kind, seconds, error)

    def failed(self, error: Exception) -> None:
        """See `Observer`."""
        with _kept():
            self._observer.failed(error)

    def ended(self, ends: Sequence[End]) -> None:
        """See `Observer`."""
        with _kept():
            self._observer.ended(ends)

    def swept(self, marked: int, deleted: int, seconds: float) -> None:
        """See `Observer`."""
        with _kept():
            self._observer.swept(marked, deleted, seconds)

    def sweep_failed(self) -> None:
        """See `Observer`."""
        with _kept():
            self._observer.sweep_failed()


class _kept:  # noqa: N801 - it reads as a statement
    """Says once a process that an observer raised, and lets go of the error."""

    said = False

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not _kept.said:
            _kept.said = True
            log.error("an observer raised; what it shows is not complete", exc_info=error)
        return True


@runtime_checkable
class Observed(Protocol):
    """A store that tells an observer, from its next `open` on."""

    observer: Observer

    def load(self) -> Load | None:
        """What it has in hand; `None` while it is not open."""
