"""More than one observer at a time."""

from collections.abc import Sequence

from holdfast.sessions.observer import Observer
from holdfast.sessions.session import End


class Several(Observer):
    """Passes everything on, in order. At most one of them may trace."""

    def __init__(self, *observers: Observer) -> None:
        """Those to pass on to."""
        self._observers = observers
        tracing = [each for each in observers if each.traces]
        self.traces = bool(tracing)
        if tracing:
            self.context = tracing[0].context  # type: ignore[method-assign]  # one call less for every joined call

    def joined(
        self, kind: str, calls: int, waited: float, seconds: float, error: Exception | None, contexts: Sequence[object]
    ) -> None:
        """See `Observer`."""
        for each in self._observers:
            each.joined(kind, calls, waited, seconds, error, contexts)

    def called(self, kind: str, seconds: float, error: BaseException | None) -> None:
        """See `Observer`."""
        for each in self._observers:
            each.called(kind, seconds, error)

    def failed(self, error: Exception) -> None:
        """See `Observer`."""
        for each in self._observers:
            each.failed(error)

    def ended(self, ends: Sequence[End]) -> None:
        """See `Observer`."""
        for each in self._observers:
            each.ended(ends)

    def swept(self, marked: int, deleted: int, seconds: float) -> None:
        """See `Observer`."""
        for each in self._observers:
            each.swept(marked, deleted, seconds)

    def sweep_failed(self) -> None:
        """See `Observer`."""
        for each in self._observers:
            each.sweep_failed()
