"""Whether the tables at a place are Holdfast's: what others made there is refused, untouched."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from holdfast.sessions.errors import StoreRefused
from holdfast.sql.revisions import known, revision_of
from holdfast.sql.tables import VERSION_TABLE, Tables
from holdfast.sql.views import VIEWS


def refuse_strangers(connection: Connection, tables: Tables) -> str | None:
    """The revision of the tables, `None` before the first. Raises `StoreRefused` for ones that others made."""
    schema = tables.metadata.schema
    relations = _relations(connection, schema)
    taken = _taken(relations, tables)
    # Seen by one statement: if another server makes the tables now, they were all there already, or none.
    there = any(_folded(name, schema) == VERSION_TABLE and kind in ("table", "view") for kind, name in relations)
    present = revision_of(connection, schema) if there else None
    if present is None and taken is not None:
        raise StoreRefused(taken)
    if present is not None and present not in known():
        raise StoreRefused(
            f"the tables are at revision {present}, which a newer version of Holdfast made; install that version, "
            "or take the tables back with it first"
        )
    return present


def _taken(relations: Sequence[tuple[str, str]], tables: Tables) -> str | None:
    """What to say about a name of ours that is taken, if our tables are not there."""
    schema = tables.metadata.schema
    own = {table.name for table in tables.metadata.tables.values()}
    own |= {str(index.name) for table in tables.metadata.tables.values() for index in table.indexes}
    own |= set(VIEWS)
    taken = [(kind != "table", name, kind) for kind, name in relations if _folded(name, schema) in own]
    if not taken:
        return None
    _, name, kind = min(taken)
    place = "the file" if schema is None else f"schema {schema!r}"
    return (
        f"{place} has {'an' if kind == 'index' else 'a'} {kind} {name!r} that is not Holdfast's; it was not touched. "
        f"To adopt the sessions of an application run `holdfast db import{'' if schema is None else ' --in-place'}`; "
        "to keep them apart " + ("use another file" if schema is None else "set HOLDFAST_SCHEMA to another schema")
    )


def _folded(name: str, schema: str | None) -> str:
    """SQLite, which has no schemas, takes names that differ in case for the same."""
    return name.lower() if schema is None else name


def _relations(connection: Connection, schema: str | None) -> list[tuple[str, str]]:
    """Kind and name of all that shares its names with tables."""
    if schema is None:
        statement = text("SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view', 'index')")
        return [(kind, name) for kind, name in connection.execute(statement)]
    statement = text(
        "SELECT CASE WHEN relkind IN ('r', 'p', 'f') THEN 'table' WHEN relkind IN ('v', 'm') THEN 'view' "
        "WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'relation' END, relname "
        "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = :schema"
    )
    return [(kind, name) for kind, name in connection.execute(statement, {"schema": schema})]
