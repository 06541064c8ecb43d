"""What PostgreSQL says before a move: version, rights, clock, whose tables are there. Nothing is changed."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.rows import SHAPES
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.failures import kind_of, to_raise

OLDEST: Final = 16


class PostgresqlAsked(PostgresqlSide):
    """The database, which is only read."""

    def __init__(self, address: PostgresqlAddress, options: StoreOptions) -> None:
        """Prepare it."""
        super().__init__(address, options, lambda _: None, timedelta(0))
        self._named = options.schema

    async def facts(self) -> Mapping[str, Any]:
        """The server and the role. Raises `StoreUnavailable` or `StoreRefused` when the database does not let us in."""
        try:
            async with self._reading() as connection:
                row = await connection.fetchrow(
                    "SELECT current_setting('server_version') AS version, "
                    "current_setting('server_version_num')::int / 10000 AS major, current_user AS role, "
                    "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only, "
                    "(SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1) AS may_create, "
                    "clock_timestamp() AS now, current_setting('server_encoding') AS encoding",
                    self._named,
                )
        except Exception as error:
            raise to_raise(error, "PostgreSQL") from (None if kind_of(error) == "refused" else error)
        assert row is not None  # noqa: S101 - it has no FROM
        return dict(row)

    async def not_owned(self) -> list[str]:
        """Holdfast's tables that belong to somebody else, whose triggers this role may therefore not switch."""
        async with self._reading() as connection:
            rows = await connection.fetch(
                "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 "
                "AND c.relname = ANY($2) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY c.relname",
                self._named,
                [*SHAPES, "holdfast_control"],
            )
            return [row[0] for row in rows]

    async def sessions(self) -> int:
        """How many rows the table of sessions has."""
        async with self._reading() as connection:
            count: int = await connection.fetchval(f"SELECT count(*) FROM {self._s}.sessions")
            return count
