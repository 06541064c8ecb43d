"""Whether the tables at a place are Holdfast's: what others made there is refused, untouched."""

from sqlalchemy import Connection, text

from holdfast.sessions.errors import StoreRefused
from holdfast.sql.revisions import known, revision_of
from holdfast.sql.tables import Tables
from holdfast.sql.views import VIEWS


def refuse_strangers(connection: Connection, tables: Tables) -> str | None:
    """The revision of the tables, `None` before the first. Raises `StoreRefused` for ones that others made."""
    # In this order: if another server makes the tables in between, they are seen with their revision or not at all.
    taken = _taken(connection, tables)
    present = revision_of(connection, tables.metadata.schema)
    if present is None and taken is not None:
        raise StoreRefused(taken)
    if present is not None and present not in known():
        raise StoreRefused(
            f"the tables are at revision {present}, which a newer version of Holdfast made; install that version, "
            "or take the tables back with it first"
        )
    return present


def _taken(connection: Connection, tables: Tables) -> str | None:
    """What to say about a name of ours that is taken, if our tables are not there."""
    schema = tables.metadata.schema
    own = {table.name for table in tables.metadata.tables.values()}
    own |= {str(index.name) for table in tables.metadata.tables.values() for index in table.indexes}
    own |= set(VIEWS)
    taken = [
        (kind != "table", name, kind)
        for name, kind in _relations(connection, schema)
        # SQLite takes names that differ in case for the same.
        if (name if schema is not None else name.lower()) in own
    ]
    if not taken:
        return None
    _, name, kind = min(taken)
    place = "the file" if schema is None else f"schema {schema!r}"
    return (
        f"{place} has {'an' if kind == 'index' else 'a'} {kind} {name!r} that is not Holdfast's; it was not touched. "
        f"To adopt the sessions of an application run `holdfast db import{'' if schema is None else ' --in-place'}`; "
        "to keep them apart " + ("use another file" if schema is None else "set HOLDFAST_SCHEMA to another schema")
    )


def _relations(connection: Connection, schema: str | None) -> list[tuple[str, str]]:
    """Name and kind of all that shares its names with tables."""
    if schema is None:
        statement = text("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view', 'index')")
        return [(name, kind) for name, kind in connection.execute(statement)]
    statement = text(
        "SELECT relname, CASE WHEN relkind IN ('r', 'p', 'f') THEN 'table' WHEN relkind IN ('v', 'm') THEN 'view' "
        "WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'relation' END "
        "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = :schema"
    )
    return [(name, kind) for name, kind in connection.execute(statement, {"schema": schema})]
