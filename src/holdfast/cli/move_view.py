"""What one sees while a move goes on: on a terminal a table that changes, else a line for each thing that is begun."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from holdfast.cli.exits import complain
from holdfast.cli.output import shown

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from holdfast.move.progress import Progress
    from holdfast.move.status import MoveStatus

_A_SECOND: Final = 5
# Worth a line of their own only once there is something to apply.
_QUIET: Final = ("looking", "following", "taking back")


class View:
    """Hears how far a mover is, and shows it on standard error."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._live: Live | None = None
        self._last = ""
        self.status: MoveStatus | None = None
        """Where the move stood before, for what a mover does not tell."""

    def __enter__(self) -> Self:
        """Begin to show."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False)
            self._live = Live(console=console, refresh_per_second=_A_SECOND, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear it away for what is said next."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: "Progress") -> None:
        """Show it."""
        if self._live is not None:
            self._live.update(table_of(facts_of(progress, self.status)))
        elif progress.doing != self._last and (progress.doing not in _QUIET or progress.rows):
            self._last = progress.doing
            of = "" if progress.of is None else f" {progress.of:,} rows"
            complain(f"{progress.doing}{of}")


def facts_of(progress: "Progress", status: "MoveStatus | None") -> dict[str, object]:
    """What is known, by name."""
    rows = f"{progress.rows:,}"
    if progress.of:
        rows += f" of {progress.of:,} ({min(100, 100 * progress.rows // progress.of)} %)"
    left, commit = progress.seconds_left, progress.commit
    return {
        "doing": progress.doing,
        "rows": rows,
        "rate": None if progress.rate is None else f"{progress.rate:,.0f} a second",
        "left": None if left is None else f"{left:,.0f} s",
        "lag": progress.lag,
        "commit": None if commit is None else f"{commit * 1000:,.1f} ms",
        "held back": f"{progress.held_back:,.1f} s",
        "last verified": status and status.verified_at,
        "quarantined": status and status.quarantined,
    }


def table_of(facts: dict[str, object]) -> "Table":
    """Facts as a table that may be shown again and again."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    # On a narrow terminal a time goes on in the next line: half of one says nothing.
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(shown(value)))
    return table
