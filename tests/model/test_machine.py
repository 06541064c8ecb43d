"""Every store answers random histories as the model does."""

import pytest

from holdfast.memory import MemoryStore
from holdfast.sessions.store import Store
from holdfast.testing.machine import EXTENSIONS, SessionMachine, run_machine


async def memory() -> Store:
    """A fresh reference store."""
    return MemoryStore()


def test_the_memory_store_answers_as_the_model() -> None:
    """Random histories on `MemoryStore` and the model agree at every step."""
    run_machine(memory, examples=100, steps=50)


@pytest.mark.parametrize("minutes", EXTENSIONS)
def test_two_limits_in_one_minute_are_told_apart(minutes: float) -> None:
    """Used and extended so that idle timeout and expiry are due together: the store and the model agree on the end."""
    machine = type("Machine", (SessionMachine,), {"new_store": staticmethod(memory)})()
    machine.open()
    try:
        token = machine.create(None, {})
        for advanced in (24, 5, 5, 1):
            machine.advance(advanced)
            machine.validate(token)
        machine.advance(24)
        machine.extend(token, minutes)
        machine.advance(1)
        machine.why(token)
        machine.sweep()
        machine.why(token)
    finally:
        machine.teardown()
