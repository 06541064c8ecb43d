"""What the two databases say differently, as functions of SQL that each renders in its own way."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from holdfast.sql.tables import Instant


class clock(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """The database's clock at this instant.

    In PostgreSQL not `now()`: that is the transaction's start, taken before it waited for a lock. In SQLite in
    milliseconds: its 'subsec' modifier is younger than the libraries in use, and silently gives NULL there.
    """

    type = Instant()
    inherit_cache = True


@compiles(clock, "postgresql")
def _clock_postgresql(element: clock, compiler: SQLCompiler, **_: Any) -> str:
    return "clock_timestamp()"


@compiles(clock, "sqlite")
def _clock_sqlite(element: clock, compiler: SQLCompiler, **_: Any) -> str:
    return "(CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000)"


class statement_clock(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """The database's clock when the statement began: never later than `clock`, and usable to search an index."""

    type = Instant()
    inherit_cache = True


@compiles(statement_clock, "postgresql")
def _statement_clock_postgresql(element: statement_clock, compiler: SQLCompiler, **_: Any) -> str:
    return "statement_timestamp()"


@compiles(statement_clock, "sqlite")
def _statement_clock_sqlite(element: statement_clock, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(clock(), **options)


class later_of(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """The later of two instants."""

    type = Instant()
    inherit_cache = True


class earlier_of(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """The earlier of two instants."""

    type = Instant()
    inherit_cache = True


class json_text(FunctionElement[str]):  # noqa: N801 - it is read as a function of SQL
    """Metadata as the text that `metadata.decode` reads."""

    type = Text()
    inherit_cache = True


class json_value(FunctionElement[Any]):  # noqa: N801 - it is read as a function of SQL
    """Canonical JSON text as a value of the metadata column."""

    inherit_cache = True


class among(FunctionElement[bool]):  # noqa: N801 - it is read as a function of SQL
    """Whether the first is one of the few that a subquery finds.

    PostgreSQL's planner takes an array for a few, and looks each up by index. It takes the rows of a limit that it does
    not know yet for a tenth of the table, and would read all of the table beside them.
    """

    type = Boolean()
    inherit_cache = True


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **options: Any) -> str:
    one, few = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{one} = ANY (ARRAY{few})"


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **options: Any) -> str:
    one, few = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{one} IN {few}"


class one_of(FunctionElement[bool]):  # noqa: N801 - it is read as a function of SQL
    """Whether an id is one of the `Ids` in a single parameter."""

    type = Boolean()
    inherit_cache = True


@compiles(one_of, "postgresql")
def _one_of_postgresql(element: one_of, compiler: SQLCompiler, **options: Any) -> str:
    one, ids = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{one} = ANY ({ids})"


@compiles(one_of, "sqlite")
def _one_of_sqlite(element: one_of, compiler: SQLCompiler, **options: Any) -> str:
    one, ids = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{one} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - compiled clauses, no values


def _renders(construct: type, dialect: str, template: str) -> None:
    @compiles(construct, dialect)
    def render(element: Any, compiler: SQLCompiler, **options: Any) -> str:
        return template.format(compiler.process(element.clauses, **options))


_renders(later_of, "postgresql", "greatest({})")
_renders(later_of, "sqlite", "max({})")
_renders(earlier_of, "postgresql", "least({})")
_renders(earlier_of, "sqlite", "min({})")
_renders(json_text, "postgresql", "CAST({} AS text)")
_renders(json_text, "sqlite", "({})")
_renders(json_value, "postgresql", "CAST({} AS jsonb)")
_renders(json_value, "sqlite", "({})")
