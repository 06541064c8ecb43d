"""The import: look at every row, refuse what would log somebody out unasked, then take them in.

Each chunk is taken in by one transaction that notes its rows, so that a run which was killed is finished by running it
again, and no session comes twice or comes back after its end.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from holdfast.backups.archive import Tell
from holdfast.imports.carrying import carried, judge
from holdfast.imports.report import Report
from holdfast.imports.sources import Source
from holdfast.legacy.reading import Reader
from holdfast.legacy.rows import OnBadExpiry
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import StoreOptions
from holdfast.sql.store import SqlStore
from holdfast.sql.stores import store_at

_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator has said."""

    zone: tzinfo
    """Whose local times the old application writes."""
    on_bad_expiry: OnBadExpiry = "quarantine"
    accept_quarantined: int = 0
    """How many live rows may be left behind: exactly this number."""

    def reader(self) -> Reader:
        """What reads the rows so."""
        return Reader(self.zone, self.on_bad_expiry)


@asynccontextmanager
async def taking(address: str | os.PathLike[str], options: StoreOptions) -> AsyncIterator[tuple[SqlStore, datetime]]:
    """The native store at an address, open to take rows in, and what its clock says.

    Raises what opening a store raises: `StoreRefused` for a file or a schema with a `sessions` table of somebody else.
    """
    store = store_at(address, options)
    assert isinstance(store, SqlStore)  # noqa: S101 - for the type checker: no address of SQL means another
    await store.open(Policy(), Clock())
    try:
        yield store, await store.ping()
    finally:
        await store.close()


async def look(source: Source, wishes: Wishes, tell: Tell, now: datetime | None = None) -> Report:
    """Read every row and change nothing. They are judged by the source's clock, unless a time is given."""
    report, reader, now, over = Report(), wishes.reader(), now or await source.now(), await source.over()
    async for rows in source.chunks():
        judge(rows, reader, now, report, over)
        tell("reading", report.rows)
    return report


def refuse(report: Report, wishes: Wishes) -> None:
    """Raise `StoreRefused` when live rows would be left behind that nobody has acknowledged, by their number."""
    if report.quarantined_live != wishes.accept_quarantined:
        raise StoreRefused(
            f"{report.quarantined_live} rows by which somebody may be logged in cannot be carried, and "
            f"{wishes.accept_quarantined} were accepted; nothing was changed. Look at the reasons with --dry-run; "
            f"to leave them behind add --accept-quarantined {report.quarantined_live}"
        )


async def carry_all(source: Source, store: SqlStore, wishes: Wishes, now: datetime, tell: Tell) -> Report:
    """Take every row in that no earlier run has. Safe to repeat.

    Raises `StoreUnavailable` once a chunk was not taken in at the fifth attempt; those before it stay taken in.
    """
    report, reader, over = Report(), wishes.reader(), await source.over()
    async for rows in source.chunks():
        chunk = [carried(each, now) for each in judge(rows, reader, now, report, over)]
        # A batch may hold a row twice only where it has no token; then the rows are the same in all.
        unique = list({each.digest: each for each in chunk}.values())
        for attempt in range(_ATTEMPTS):
            try:
                report.new += await store.carry(unique)
                break
            except StoreUnavailable:
                # An unknown outcome too: repeating it does what was not done.
                if attempt == _ATTEMPTS - 1:
                    raise
        tell("importing", report.rows)
    return report
