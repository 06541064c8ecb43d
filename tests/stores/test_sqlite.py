"""The SQLite store keeps the contract."""

from pathlib import Path

import pytest

from holdfast.sessions.store import Store, StoreOptions
from holdfast.sql.stores import store_at
from holdfast.testing.suite import StoreSuite


class TestSqliteStore(StoreSuite):
    """The suite on a SQLite file."""

    @pytest.fixture(autouse=True)
    def files(self, tmp_path: Path) -> None:
        """Where the files go."""
        self.directory = tmp_path
        self.made = 0

    async def new_store(self) -> Store:
        self.made += 1
        return await self.same_store()

    async def same_store(self) -> Store:
        return store_at(self.directory / f"sessions-{self.made}.db", StoreOptions())
