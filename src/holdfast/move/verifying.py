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

# So many are compared once more together, while they are few.
MOST_SUSPECTS = 2000
# Past so many nobody needs to know how many more there are.
MOST_DIFFERING = 10_000


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


async def compared(
    sqlite: SqliteSide,
    postgresql: PostgresqlSide,
    limit: int,
    renew: Callable[[int], Awaitable[None]],
    settle: Callable[[dict[str, list[Key]]], Awaitable[dict[str, list[Key]]]],
) -> Comparison:
    """Compare all rows, read one after the other; `settle` tells which of those that differed do so for good.

    `renew` is called now and then, with how many rows are compared: it may take long. It goes on to the last row,
    unless so many differ for good that there is nothing left to find out.
    """
    counted, found, differing = 0, _nothing(), _nothing()

    async def settled() -> None:
        nonlocal found
        for table, keys in (await settle(found)).items():
            differing[table].extend(keys)
        found = _nothing()

    for table, shape in SHAPES.items():
        after: Key | None = None
        while True:
            to, rows, suspected = await _chunk(sqlite, postgresql, shape, after, limit)
            counted += rows
            await renew(counted)
            found[table].extend(suspected)
            if sum(map(len, found.values())) >= MOST_SUSPECTS:
                await settled()
                if sum(map(len, differing.values())) >= MOST_DIFFERING:
                    return Comparison(counted, differing)
            if to is None:
                break
            after = to
    await settled()
    return Comparison(counted, differing)


def _nothing() -> dict[str, list[Key]]:
    return {table: [] for table in SHAPES}


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
