"""Every store answers random histories as the model does."""

from holdfast.memory import MemoryStore
from holdfast.sessions.store import Store
from holdfast.testing.machine import run_machine


async def memory() -> Store:
    """A fresh reference store."""
    return MemoryStore()


def test_the_memory_store_answers_as_the_model() -> None:
    """Random histories on `MemoryStore` and the model agree at every step."""
    run_machine(memory, examples=100, steps=50)
