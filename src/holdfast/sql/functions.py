"""What the two databases say differently, as functions of SQL that each renders in its own way."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, Double, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from holdfast.sql.tables import Instant

SQLITE_CLOCK: Final = "(CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000)"
"""Microseconds since 1970, in steps of a millisecond."""


class clock(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """The database's clock at this instant.

    In PostgreSQL not `now()`: that is the transaction's start, taken before it waited for a lock. In SQLite in
    milliseconds: its 'subsec' modifier is younger than the libraries in use, and silently gives NULL there.
    """

    type = Instant()
    inherit_cache = True


class statement_clock(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """The database's clock when the statement began: never later than `clock`, and usable to search an index."""

    type = Instant()
    inherit_cache = True


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


class one_of(FunctionElement[bool]):  # noqa: N801 - it is read as a function of SQL
    """Whether an id is one of the `Ids` in a single parameter."""

    type = Boolean()
    inherit_cache = True


class hour_of(FunctionElement[datetime]):  # noqa: N801 - it is read as a function of SQL
    """When the hour of an instant began, in UTC."""

    type = Instant()
    inherit_cache = True


class seconds_between(FunctionElement[float]):  # noqa: N801 - it is read as a function of SQL
    """The seconds from the first instant to the second."""

    type = Double()
    inherit_cache = True


def _renders(construct: type[FunctionElement[Any]], dialect: str, template: str) -> None:
    """Let a function be rendered by a template in which `{}` stands for each of its arguments in turn."""

    @compiles(construct, dialect)
    def render(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> str:
        return template.format(*(compiler.process(clause, **options) for clause in element.clauses))


for _function, _postgresql, _sqlite in (
    (clock, "clock_timestamp()", SQLITE_CLOCK),
    (statement_clock, "statement_timestamp()", SQLITE_CLOCK),
    (later_of, "greatest({}, {})", "max({}, {})"),
    (earlier_of, "least({}, {})", "min({}, {})"),
    (json_text, "CAST({} AS text)", "({})"),
    (json_value, "CAST({} AS jsonb)", "({})"),
    (among, "{} = ANY (ARRAY{})", "{} IN {}"),
    (one_of, "{} = ANY ({})", "{} IN (SELECT value FROM json_each({}))"),
    (hour_of, "date_trunc('hour', {}, 'UTC')", "({} / 3600000000 * 3600000000)"),
    (seconds_between, "CAST(extract(epoch FROM {1} - {0}) AS double precision)", "(({1} - {0}) / 1000000.0)"),
):
    _renders(_function, "postgresql", _postgresql)
    _renders(_function, "sqlite", _sqlite)
