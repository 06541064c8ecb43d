"""What an application, or the author of a store, needs to test with Holdfast.

- `MovableClock` moves the store's time, so that no test ever sleeps.
- `MemoryStore` is the reference store, for tests that need no database.
- `FaultyStore` goes around any store and fails on demand.
- `holdfast.testing.suite.StoreSuite` holds a store to the contract, and
  `holdfast.testing.machine.run_machine` does so with random histories.
  Both need pytest and hypothesis (the extra `testing`).
"""

from holdfast.memory import MemoryStore
from holdfast.testing.clock import MovableClock
from holdfast.testing.faults import Fault, FaultyStore

__all__ = ["Fault", "FaultyStore", "MemoryStore", "MovableClock"]
