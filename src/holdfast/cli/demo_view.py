"""What one sees of `holdfast demo`: on a terminal a picture that moves, else a line a step, on standard error."""

import sys
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from holdfast.cli.exits import complain
from holdfast.cli.output import print_table
from holdfast.demo.checking import Outcome
from holdfast.demo.progress import Progress, Step

_MARKS: Final = {"running": ("…", "yellow"), "done": ("✓", "green"), "failed": ("✗", "red")}
_FINDINGS: Final = 20


class View:
    """Shows how far the demonstration is."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        console = Console(stderr=True, highlight=False)
        self._live = Live(console=console, refresh_per_second=5) if console.is_terminal else None
        self._told = 0

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last picture stays."""
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Something happened."""
        if self._live is not None:
            self._live.update(_picture(progress))
            return
        while self._told < len(progress.steps) and progress.steps[self._told].state != "running":
            sys.stderr.write(_line(progress.steps[self._told]) + "\n")
            sys.stderr.flush()
            self._told += 1


def _line(step: Step) -> str:
    return f"{_MARKS[step.state][0]} {step.seconds:5.1f} s  {step.title:32} {step.command:13} {step.note}".rstrip()


def _picture(progress: Progress) -> Group:
    steps = Table(box=None, pad_edge=False, show_header=False)
    for step in progress.steps:
        mark, colour = _MARKS[step.state]
        seconds = "" if step.state == "running" else f"{step.seconds:.1f} s"
        steps.add_row(
            Text(mark, colour), Text(step.title), Text(step.command, "cyan"), Text(seconds, "dim"), Text(step.note)
        )
    if not progress.tally:
        return Group(steps)
    tally = progress.tally
    numbers = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("serving", "sockets", "acknowledged", "waiting", "longest wait", "dropped", "logged out"):
        numbers.add_column(name, justify="right" if name != "serving" else "left")
    numbers.add_row(
        Text(progress.serving, "bold"),
        f"{tally['open']:,}",
        f"{tally['acknowledged']:,}",
        f"{tally['waiting']:,}",
        f"{tally['longest_ms']:,.0f} ms",
        f"{tally['dropped']:,}",
        f"{tally['logged_out']:,}",
    )
    return Group(steps, Text(), numbers)


def print_outcome(outcome: Outcome) -> None:
    """The table, on standard output, and what is wrong, if anything is."""
    rows: list[tuple[str, str]] = [
        ("sessions", f"{outcome.sessions:,}"),
        ("writes acknowledged", f"{outcome.acknowledged:,}"),
        ("  by the old application", f"{outcome.by_old_application:,}"),
        ("lost", f"{outcome.lost:,}"),
        ("counted too often", f"{outcome.invented:,}"),
        ("sockets dropped", f"{outcome.sockets_dropped:,} of {outcome.sockets:,}"),
        ("log-outs", f"{outcome.logged_out:,}"),
        ("refused and asked again", f"{outcome.refused:,}"),
        ("of unknown outcome", f"{outcome.unknown:,}"),
        ("usual wait", f"{outcome.usual_wait_ms:,.0f} ms"),
        ("longest wait", f"{outcome.longest_wait_ms:,.0f} ms"),
        ("  of the old application", f"{outcome.old_application_wait_ms:,.0f} ms"),
    ]
    print_table(("by the clients' journals", ""), rows)
    for finding in outcome.findings[:_FINDINGS]:
        complain(finding)
    if len(outcome.findings) > _FINDINGS:
        complain(f"and {len(outcome.findings) - _FINDINGS} more, see --keep and --json")
