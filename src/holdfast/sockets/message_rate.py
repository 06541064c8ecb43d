"""How fast one socket may send: a bucket of tokens that fills steadily and holds a burst."""


class MessageRate:
    """The bucket of one socket: each message takes a token, and a second brings `per_second` new ones."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: float, now: float) -> None:
        """A full bucket. Times are seconds of any clock that does not go back."""
        self._left = burst
        self._at = now

    def take(self, now: float, per_second: float, burst: float) -> bool:
        """Take a token; `False` when none is left."""
        self._left = min(burst, self._left + (now - self._at) * per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
