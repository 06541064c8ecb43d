"""Comparing all rows of both stores, while writes go on.

One pass walks through both in the order of keys and notes which rows differ: most of these were written in between.
They are compared again, each with the row as it was when the last of the log was applied, and nothing excuses a
difference then.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.rows import SHAPES, Key, Shape
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.threads import in_thread

# Past so many it is no longer writes in between.
MOST_SUSPECTS = 10_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison of all rows found."""

    rows: int = 0
    """How many rows were compared, of all tables."""
    differing: dict[str, list[Key]] = field(default_factory=dict)
    """The keys of each table whose rows differ for good."""

    @property
    def clean(self) -> bool:
        """Whether no row differs."""
        return not any(self.differing.values())


async def suspects(
    sqlite: SqliteSide, postgresql: PostgresqlSide, limit: int, renew: Callable[[int], Awaitable[None]]
) -> tuple[int, dict[str, list[Key]]]:
    """How many rows there are, and the keys of those that differed when they were read one after the other.

    `renew` is called now and then, with how many rows are compared: it may take long.
    """
    counted, found = 0, {table: list[Key]() for table in SHAPES}
    for table, shape in SHAPES.items():
        after: Key | None = None
        while True:
            to, rows, differing = await _chunk(sqlite, postgresql, shape, after, limit)
            counted += rows
            await renew(counted)
            found[table].extend(differing)
            if to is None or len(found[table]) > MOST_SUSPECTS:
                break
            after = to
    return counted, found


async def _chunk(
    sqlite: SqliteSide, postgresql: PostgresqlSide, shape: Shape, after: Key | None, limit: int
) -> tuple[Key | None, int, list[Key]]:
    ours = await in_thread(sqlite.chunk, shape, after, limit)
    # The last chunk has no end: what PostgreSQL has beyond it is too much.
    to = ours[-1][0] if len(ours) == limit else None
    mine = {row[0]: row for row in ours}
    found = await postgresql.chunk(shape, after, to)
    theirs = {row[0]: sqlite.seen_row(shape, row, mine.get(row[0])) for row in found}
    return to, len(ours), [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]
