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


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a look at some rows of both stores, one after the other, found."""

    to: Key | None
    """The last key of it; `None` at the end of the table."""
    rows: int
    suspected: list[Key]
    """The keys of rows that seemed to differ."""


async def compared(
    read: Callable[[Shape, Key | None], Awaitable[Stretch]],
    renew: Callable[[int], Awaitable[None]],
    settle: Callable[[dict[str, list[Key]]], Awaitable[dict[str, list[Key]]]],
) -> Comparison:
    """Compare all rows, which `read` reads after a key; `settle` tells which of those that differed do so for good.

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
            stretch = await read(shape, after)
            counted += stretch.rows
            await renew(counted)
            found[table].extend(stretch.suspected)
            if sum(map(len, found.values())) >= MOST_SUSPECTS:
                await settled()
                if sum(map(len, differing.values())) >= MOST_DIFFERING:
                    return Comparison(counted, differing)
            if stretch.to is None:
                break
            after = stretch.to
    await settled()
    return Comparison(counted, differing)


def _nothing() -> dict[str, list[Key]]:
    return {table: [] for table in SHAPES}


async def stretch_after(
    sqlite: SqliteSide, postgresql: PostgresqlSide, shape: Shape, after: Key | None, limit: int
) -> Stretch:
    """So many rows of a table in the order of their keys, in both stores."""
    ours = await in_thread(sqlite.chunk, shape, after, limit)
    # The last one has no end: what PostgreSQL has beyond it is too much.
    to = ours[-1][0] if len(ours) == limit else None
    mine = {row[0]: row for row in ours}
    found = await postgresql.chunk(shape, after, to)
    theirs = {row[0]: sqlite.seen_row(shape, row, mine.get(row[0])) for row in found}
    return Stretch(to, len(ours), [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)])
