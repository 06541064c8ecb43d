"""How far a long command is, on standard error: a line that is written over on a terminal, else nothing."""

import sys
import time
from types import TracebackType
from typing import Final, Self

_SECONDS: Final = 0.2


class Progress:
    """Hears of steps, shows the present one with its rows and their rate."""

    def __init__(self) -> None:
        """Nothing is shown unless a person looks."""
        # On demand: it loads SQLAlchemy, which a page of help does without.
        from holdfast.backups.archive import COUNTED

        self._counting = COUNTED
        self._shown = sys.stderr.isatty()
        self._step = ""
        self._since = self._last = time.monotonic()
        self._width = 0
        self.expected: int | None = None
        """How many rows the present step has in all, where that is known: then what is left of it is shown too."""
        self._counted: int | None = None

    def __call__(self, step: str, rows: int) -> None:
        """A step has come this far."""
        now = time.monotonic()
        if step == self._counting:
            self._counted = rows
            return
        if step != self._step:
            self._step, self._since, self._last = step, now, 0.0
            if self._counted is not None:
                self.expected, self._counted = self._counted, 0
        if self._shown and now - self._last > _SECONDS:
            self._last = now
            rate = rows / max(now - self._since, 0.001)
            text = f"{step}: {rows:,} rows, {rate:,.0f} a second" if rows else step
            if rows and self.expected:
                text += f", {max(self.expected - rows, 0) / rate:,.0f} seconds left"
            self._width = max(self._width, len(text))
            sys.stderr.write(f"\r{text:{self._width}}")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the line for what is said next."""
        if self._width:
            sys.stderr.write(f"\r{'':{self._width}}\r")
            sys.stderr.flush()
