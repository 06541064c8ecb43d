"""How fast one socket may send: buckets of tokens that fill steadily and hold a burst.

Times are seconds of any clock that does not go back.
"""


class FrameRate:
    """The bucket of a connection's frames: each takes a token, and a second brings `per_second` new ones."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: float, now: float) -> None:
        """A full bucket."""
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


class MessageRate:
    """The bucket of a socket's messages. Whoever finds it empty waits for the next token.

    It holds no more than a burst while somebody listens to the client. Otherwise it goes on filling: what a client
    sent meanwhile, at a rate that it may, comes all at once afterwards, and is not its fault.
    """

    __slots__ = ("_at", "_burst", "_left", "_listening", "_over_since", "_per_second")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        """A full bucket."""
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = now
        self._listening = False
        self._over_since: float | None = None

    def listen(self, now: float) -> None:
        """Somebody waits for the client's next message from now on."""
        self._fill(now)
        self._listening = True

    def take(self, now: float) -> float:
        """Take a token for a message that came: the seconds to wait before it may pass."""
        self._fill(now)
        self._listening = False
        self._left -= 1.0
        if self._left >= 0:
            self._over_since = None
            return 0.0
        if self._over_since is None:
            self._over_since = now
        return -self._left / self._per_second

    def over_for(self, now: float) -> float:
        """For how many seconds every message has had to wait."""
        return 0.0 if self._over_since is None else now - self._over_since

    def _fill(self, now: float) -> None:
        filled = self._left + (now - self._at) * self._per_second
        self._left = max(self._left, min(filled, self._burst)) if self._listening else filled
        self._at = now
