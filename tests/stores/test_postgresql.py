"""The PostgreSQL store keeps the contract, on the oldest and the newest server of the test wheel."""

import pytest

from holdfast.sessions.store import Store, StoreOptions
from holdfast.sql.stores import store_at
from holdfast.testing.suite import StoreSuite
from tests.conftest import MigratedDatabases


class PostgresqlSuite(StoreSuite):
    """The suite on a PostgreSQL database."""

    version: int | None = None

    @pytest.fixture(autouse=True)
    def databases(self, emptied_database: MigratedDatabases) -> None:
        """Where the databases come from."""
        self.emptied_database = emptied_database

    async def new_store(self) -> Store:
        self.address = self.emptied_database(self.version)
        return await self.same_store()

    async def same_store(self) -> Store:
        # A race is about order: nobody is to be refused because a busy machine let a call wait.
        return store_at(self.address, StoreOptions(deadline=30.0, connections=12))


@pytest.mark.parametrize("emptied_database", [[16]], indirect=True, ids=["16"])
class TestPostgresql16(PostgresqlSuite):
    """The suite on PostgreSQL 16."""

    version = 16


@pytest.mark.parametrize("emptied_database", [[18]], indirect=True, ids=["18"])
class TestPostgresql18(PostgresqlSuite):
    """The suite on PostgreSQL 18, or on the server of HOLDFAST_TEST_DATABASE_URL."""

    version = 18
