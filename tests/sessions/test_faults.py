"""The faulty store fails where it was told to, and nowhere else."""

import asyncio

import pytest

from holdfast.sessions.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import Store
from holdfast.testing import FaultyStore, MemoryStore
from holdfast.testing.suite import StoreSuite


class TestFaultyStore(StoreSuite):
    """Without a plan it is the store it goes around: the whole suite holds."""

    async def new_store(self) -> Store:
        return FaultyStore(MemoryStore())


async def test_a_failed_call_does_not_reach_the_store() -> None:
    """The named call of the named method, counted from the planning, and no other."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        await sessions.create_session()
        store.fail("create", at=2)
        await sessions.create_session()
        with pytest.raises(StoreUnavailable):
            await sessions.create_session()
        await sessions.create_session()
        assert await sessions.get_active_session_count() == 3
        assert store.calls["create"] == 4


async def test_a_lost_answer_was_a_done_call() -> None:
    """The caller gets `OutcomeUnknown`, and the store has counted."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        token, _ = await sessions.create_session()
        store.lose("touch")
        with pytest.raises(OutcomeUnknown):
            await sessions.validate_session(token)
        session = await sessions.validate_session(token)
        assert session is not None
        assert session.request_count == 2


async def test_any_error_may_be_planned() -> None:
    """An application can try its answer to each of them."""
    store = FaultyStore(MemoryStore())
    store.fail("open", error=StoreRefused("another schema"))
    with pytest.raises(StoreRefused, match="another schema"):
        await SessionManager(store).open()


async def test_a_stalled_call_waits_to_be_released() -> None:
    """It arrives, others pass it by, and then it is done."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        token, _ = await sessions.create_session()
        fault = store.stall("touch")
        waiting = asyncio.create_task(sessions.validate_session(token))
        await fault.arrived.wait()
        overtaking = await sessions.validate_session(token)
        assert overtaking is not None
        assert not waiting.done()
        fault.release()
        session = await waiting
        assert session is not None
        assert (overtaking.request_count, session.request_count) == (1, 2)


def test_a_fault_needs_a_method_of_the_contract() -> None:
    """A plan for a method that no store has would never come true."""
    with pytest.raises(ValueError, match="validate"):
        FaultyStore(MemoryStore()).fail("validate")
