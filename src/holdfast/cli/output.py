"""What a command prints: tables for people, JSON for programs, and questions before something is destroyed."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import typer

from holdfast.cli.exits import USAGE, end
from holdfast.sessions.timestamps import timestamp

# A pipe has no width: nothing may be cut there.
_PIPE_WIDTH: Final = 100_000


def print_json(value: object) -> None:
    """One JSON value on standard output; times in UTC."""
    typer.echo(json.dumps(value, default=_spelled))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table with a line for each row; nothing in it is cut, and numbers stand to the right.

    On a terminal that has no room for the lines each row is a block of names and values.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[index], int) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    wide = console.options.update(max_width=_PIPE_WIDTH)
    if rows and Measurement.get(console, wide, table).maximum > console.width:
        for index, row in enumerate(rows):
            if index:
                typer.echo()
            print_facts(dict(zip(columns, row, strict=True)))
        return
    with console.capture() as captured:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()))


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one pair to a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:{width}}  {shown(value)}")


def shown(value: object) -> str:
    """A value as people read it. What users put into it moves no terminal's cursor."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, int):
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed, unless it was said already. Ends the command when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        end(USAGE, "there is no terminal to ask at; add --yes if you mean it")
    typer.confirm(question, abort=True, err=True)


def _spelled(value: Any) -> str:
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError(type(value).__name__)
