"""What the dialect takes from the driver is what SQLAlchemy would have asked the server."""

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from holdfast.sql.dialect import DRIVER, ISOLATION
from tests.support.postgres import PostgresCluster


@pytest.mark.parametrize("strings", ["on", "off"])
async def test_the_driver_knows_what_the_server_would_be_asked(strings: str, postgres_each: PostgresCluster) -> None:
    """Its version, its default isolation, and how it reads a backslash."""
    known = []
    for driver in ("postgresql+asyncpg://", DRIVER):
        engine = create_async_engine(
            driver,
            isolation_level=ISOLATION,
            connect_args={
                "dsn": postgres_each.address(),
                "server_settings": {
                    "standard_conforming_strings": strings,
                    "default_transaction_isolation": "read committed",
                },
            },
        )
        async with engine.connect():
            dialect = engine.dialect
            known.append(
                (
                    dialect.server_version_info,
                    dialect.default_isolation_level,
                    vars(dialect)["_backslash_escapes"],
                    dialect.supports_identity_columns,
                    dialect.max_identifier_length,
                )
            )
        await engine.dispose()
    assert known[0] == known[1]
