"""What a native SQLite file holds, before a move: every row read as the copy would read it. Nothing is changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from holdfast.move.rows import SHAPES, Row, Shape
from holdfast.move.state import MoveRefused
from holdfast.sql.sqlite_file import reading

_ROWS: Final = 1000


def read_native(path: Path, tell: Callable[[int], None]) -> tuple[dict[str, int], list[str]]:
    """How many rows each table has, and the names of those that are damaged.

    A damaged row cannot be said in PostgreSQL, or would come back as another one. `tell` hears now and then how many
    rows were read. Raises `StoreUnavailable` for a file that cannot be read.
    """
    counts, damaged = dict.fromkeys(SHAPES, 0), []
    with reading(path) as driver:
        for table, shape in SHAPES.items():
            rows: list[Any] = []
            # In chunks: under a rollback journal a long read would keep writers waiting.
            while not rows or len(rows) == _ROWS:
                where, values = (f"WHERE {shape.key} > ?", [rows[-1][0]]) if rows else ("", [])
                rows = driver.execute(
                    f"SELECT {shape.columns()} FROM {table} {where} ORDER BY {shape.key} LIMIT {_ROWS}", values
                ).fetchall()
                if not rows:
                    break
                damaged += [f"{table}: {shape.named(row)}" for row in rows if not _comes_back(shape, row)]
                counts[table] += len(rows)
                tell(sum(counts.values()))
    return counts, damaged


def _comes_back(shape: Shape, row: Row) -> bool:
    """Whether a row can be said in PostgreSQL, and means the same on its way back."""
    try:
        there = shape.to_postgresql([row])
        return shape.to_sqlite([values[0] for values in there]) == tuple(row)
    except (MoveRefused, TypeError, ValueError, AttributeError):
        return False


def journal_mode(path: Path) -> str:
    """Of the file: `wal`, `delete` or another."""
    with reading(path) as driver:
        mode: str = driver.execute("PRAGMA journal_mode").fetchone()[0]
        return mode
