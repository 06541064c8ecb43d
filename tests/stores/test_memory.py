"""The reference store keeps the contract."""

from holdfast.memory import MemoryStore
from holdfast.sessions.store import Store
from holdfast.testing.suite import StoreSuite


class TestMemoryStore(StoreSuite):
    """The suite on `MemoryStore`, which two servers cannot share."""

    async def new_store(self) -> Store:
        return MemoryStore()
