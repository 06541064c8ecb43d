"""The revisions of the schema: which there are, and which one a database is at."""

from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, select, table

from holdfast.sessions.errors import StoreRefused
from holdfast.sql.tables import VERSION_TABLE

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def revision_of(connection: Connection, schema: str | None) -> str | None:
    """The revision that the table of revisions says, if it does. `None` as schema is SQLite's."""
    # Without Alembic, which would tell every start of every server to the log.
    revision: str | None = connection.scalar(
        select(column("version_num")).select_from(table(VERSION_TABLE, schema=schema))
    )
    return revision


def newest() -> str:
    """The one that this version needs."""
    return known()[-1]


def is_newest(revision: str | None) -> bool:
    """Whether a revision is the one that this version needs."""
    return revision == newest()


def is_known(revision: str) -> bool:
    """Whether there is such a revision, by its full name, in this version."""
    return revision in known()


def refuse_newer(revision: str | None) -> None:
    """Raise `StoreRefused` for a revision that this version does not know: a newer one made it."""
    if revision not in known():
        raise StoreRefused(f"revision {revision} is of a newer version of Holdfast; install that version")


@cache
def known() -> tuple[str, ...]:
    """All there are, the newest last. By the names of their files: Alembic would load every one of them, and itself."""
    return tuple(sorted(each.name.partition("_")[0] for each in (MIGRATIONS / "versions").glob("[0-9]*_*.py")))
