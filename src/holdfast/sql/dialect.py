"""The dialect of PostgreSQL as SQLAlchemy has it, but that it asks the server nothing when it first connects.

Its first connection would cost ten round trips more, which over a slow line is longer than many a deadline. The driver
was told the same while it connected, or our own connection arguments say it.
"""

from typing import Any, Final, cast

from sqlalchemy import Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

DRIVER: Final = "postgresql+holdfast://"
"""What an engine is made for, to have this dialect."""
ISOLATION: Final = "READ COMMITTED"
"""Of every transaction, whatever the role's default is: who has waited for a lock has to see what was committed."""


class Dialect(PGDialect_asyncpg):
    """SQLAlchemy's own, for an engine that is given `ISOLATION` and names the schema of every table."""

    supports_statement_cache = True

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = _driver(connection).get_server_version()
        return (version.major, version.micro)

    def _get_default_schema_name(self, _: Connection) -> str:
        # Not to be had without asking. SQLAlchemy catches this at the first connection, and knows of no default then.
        raise NotImplementedError("every statement of ours names its schema")

    def get_default_isolation_level(self, _: Any) -> Any:
        """See `sqlalchemy.engine.interfaces.Dialect`."""
        return ISOLATION

    def _set_backslash_escapes(self, connection: Connection) -> None:
        self._backslash_escapes = (
            getattr(_driver(connection).get_settings(), "standard_conforming_strings", "") == "off"
        )


def _driver(connection: Connection) -> Any:
    return cast("Any", connection.connection.driver_connection)


registry.register("postgresql.holdfast", __name__, "Dialect")
