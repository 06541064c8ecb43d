"""Two stores followed as one keep the contract, whichever of them serves."""

from pathlib import Path

import pytest

from holdfast.move.following import FollowingStore
from holdfast.sessions.store import MovableStore, Store, StoreOptions
from holdfast.sql.stores import store_at
from holdfast.testing.suite import StoreSuite
from tests.conftest import MigratedDatabases
from tests.move.authority import Pair


def movable(address: str | Path, deadline: float = 5.0) -> MovableStore:
    """A store that may be one of two."""
    return store_at(address, StoreOptions(connections=3, follows=True, deadline=deadline))


class FollowingSuite(StoreSuite):
    """The suite on a SQLite file and a PostgreSQL database, one of which holds the authority."""

    serving: str

    @pytest.fixture(autouse=True)
    def places(self, tmp_path: Path, emptied_database: MigratedDatabases) -> None:
        """Where both stores are."""
        self.directory = tmp_path
        self.emptied_database = emptied_database
        self.made = 0

    async def new_store(self) -> Store:
        self.made += 1
        self.pair = await Pair.made(self.directory / f"sessions-{self.made}.db", self.emptied_database(None))
        await self.pair.give(self.serving)
        return await self.same_store()

    async def same_store(self) -> Store:
        sqlite, postgresql = movable(self.pair.path), movable(self.pair.address)
        return FollowingStore(sqlite, postgresql, preferred=None, deadline=5.0)


@pytest.mark.soak
class TestServedFromSqlite(FollowingSuite):
    """The suite while SQLite holds the authority."""

    serving = "sqlite"


class TestServedFromPostgresql(FollowingSuite):
    """The suite while PostgreSQL holds the authority."""

    serving = "postgresql"
