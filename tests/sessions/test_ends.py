"""Who hears of an end when callers give up, answers are lost, the manager closes, or the hook misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import pytest

from holdfast.sessions import ends as ends_module
from holdfast.sessions import sweeper as sweeper_module
from holdfast.sessions.errors import OutcomeUnknown, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import End, NewSession
from holdfast.testing import Fault, FaultyStore, MemoryStore, MovableClock

Answer = TypeVar("Answer")


class LateStore(FaultyStore):
    """Does what it is asked at once, and keeps the answer to one method back until it is released."""

    def __init__(self, late: str) -> None:
        super().__init__(MemoryStore())
        self.late = late
        self.done = asyncio.Event()
        self.release = asyncio.Event()

    async def _call(self, method: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        answer = await super()._call(method, call)
        if method == self.late and not self.done.is_set():
            self.done.set()
            await self.release.wait()
        return answer


class Heard:
    """What the hook was told."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.one = asyncio.Event()

    def __call__(self, end: End) -> None:
        self.ids.append(end.id)
        self.one.set()


@asynccontextmanager
async def soon() -> AsyncIterator[None]:
    """Within five seconds, for what would wait for ever if it were broken."""
    async with asyncio.timeout(5):
        yield


async def some_turns() -> None:
    """Let the loop run whatever is ready, and what becomes ready by it."""
    for _ in range(10):
        await asyncio.sleep(0)


# Callers that give up


ENDINGS: list[tuple[str, Callable[[SessionManager, NewSession], Awaitable[object]]]] = [
    ("end", lambda sessions, new: sessions.delete_session(new.token)),
    ("end", lambda sessions, new: sessions.end_session(new.id)),
    ("end_user", lambda sessions, _: sessions.revoke_user_sessions("u1")),
    ("end_user", lambda sessions, _: sessions.erase_user("u1")),
    ("mark_expired", lambda sessions, _: sessions.sweep()),
    ("mark_expired", lambda sessions, _: sessions.cleanup_expired_sessions()),
]


@pytest.mark.parametrize(("method", "ending"), ENDINGS, ids=["token", "id", "user", "erase", "sweep", "clean-up"])
async def test_a_cancelled_caller_leaves_nobody_deaf(
    method: str, ending: Callable[[SessionManager, NewSession], Awaitable[object]]
) -> None:
    """Cancelled while the store is ending the session: watch and hook hear of it all the same (promise 7)."""
    heard, store, clock = Heard(), LateStore(method), MovableClock()
    async with SessionManager(store, sweep_interval=None, clock=clock, on_end=heard) as sessions:
        new = await sessions.create_session(user_id="u1")
        async with sessions.watch(new.token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await clock.until_sleeping()
            if method == "mark_expired":
                # Not through `advance`, which would wake the watch: only the sweep is to tell it.
                clock.offset += timedelta(days=1)
            caller = asyncio.ensure_future(ending(sessions, new))
            await store.done.wait()
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            store.release.set()
            async with soon():
                end = await waiting
                await heard.one.wait()
            assert end is not None
            assert end.id == new.id
    assert heard.ids == [new.id]


async def test_closing_waits_for_ends_without_a_caller() -> None:
    """What a cancelled caller began is finished, and told, before the store closes."""
    heard, store = Heard(), LateStore("end")
    sessions = SessionManager(store, sweep_interval=None, on_end=heard)
    await sessions.open()
    new = await sessions.create_session()
    caller = asyncio.create_task(sessions.delete_session(new.token))
    await store.done.wait()
    caller.cancel()
    closing = asyncio.create_task(sessions.close())
    await some_turns()
    assert store.calls["close"] == 0
    store.release.set()
    async with soon():
        await closing
    assert (heard.ids, store.calls["told"], store.calls["close"]) == ([new.id], 1, 1)


async def test_a_failure_that_no_caller_waits_for_harms_nobody() -> None:
    """The loop has nothing to complain about, and the session lives."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        new = await sessions.create_session()
        stalled = planned(store, "end", StoreUnavailable("a planned fault"))
        caller = asyncio.create_task(sessions.delete_session(new.token))
        await stalled.arrived.wait()
        caller.cancel()
        stalled.release()
        await asyncio.gather(caller, return_exceptions=True)
        assert await sessions.validate_session(new.token)


def planned(store: FaultyStore, method: str, error: BaseException) -> Fault:
    """A call that waits to be released, and then fails."""
    return store._planned(method, 1, Fault(error, None, stalls=True))


# Answers that are lost


async def test_an_end_whose_answer_is_lost_is_heard() -> None:
    """The store is asked once whether the session ended; the caller still gets `OutcomeUnknown`."""
    heard, store = Heard(), FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None, on_end=heard) as sessions:
        new = await sessions.create_session()
        async with sessions.watch(new.token) as watch:
            store.lose("end")
            with pytest.raises(OutcomeUnknown):
                await sessions.end_session(new.id)
            async with soon():
                assert await watch.wait() == await store.end_of(UUID(new.id))
                await heard.one.wait()
        assert store.calls["end"] == 1


async def test_a_lost_answer_is_not_made_up() -> None:
    """Not ended, ended by its own time, or not to be asked: nobody is told, and the caller knows as much as before."""
    heard, store, clock = Heard(), FaultyStore(MemoryStore()), MovableClock()
    async with SessionManager(store, sweep_interval=None, clock=clock, on_end=heard) as sessions:
        new = await sessions.create_session()
        for _ in range(2):
            store.fail("end", error=OutcomeUnknown("a planned fault"))
            with pytest.raises(OutcomeUnknown):
                await sessions.end_session(new.id)
            clock.advance(timedelta(days=1))
        store.fail("end", error=OutcomeUnknown("a planned fault"))
        store.fail("end_of")
        with pytest.raises(OutcomeUnknown):
            await sessions.end_session(new.id)
        assert store.calls["end_of"] == 3
    assert heard.ids == []


# Closing


@pytest.mark.parametrize(("method", "ending"), ENDINGS[:3], ids=["token", "id", "user"])
async def test_an_end_that_meets_a_close_is_answered(
    method: str, ending: Callable[[SessionManager, NewSession], Awaitable[object]]
) -> None:
    """Accepted before the close and made by the store: the caller does not read that nothing was done."""
    heard, store = Heard(), LateStore(method)
    sessions = SessionManager(store, sweep_interval=None, on_end=heard)
    await sessions.open()
    new = await sessions.create_session(user_id="u1")
    caller = asyncio.ensure_future(ending(sessions, new))
    await store.done.wait()
    closing = asyncio.create_task(sessions.close())
    await some_turns()
    with pytest.raises(StoreUnavailable, match="not open"):
        await sessions.create_session()
    store.release.set()
    async with soon():
        assert await caller in (True, 1)
        await closing
    assert heard.ids == [new.id]


async def test_a_cancelled_close_closes_the_store() -> None:
    """It was to wait for the hook; given up, it leaves no store open behind a manager that is closed."""
    store = FaultyStore(MemoryStore())
    called, release = asyncio.Event(), asyncio.Event()

    async def hook(end: End) -> None:
        called.set()
        await release.wait()

    sessions = SessionManager(store, sweep_interval=None, on_end=hook)
    await sessions.open()
    await sessions.delete_session((await sessions.create_session()).token)
    await called.wait()
    closing = asyncio.create_task(sessions.close())
    await some_turns()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert store.calls["close"] == 1
    release.set()
    await sessions.ends.finish()


# A hook that misbehaves


async def test_a_hook_that_hangs_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Erasing, sweeping and closing go on without it, and its ends stay untold."""
    monkeypatch.setattr(ends_module, "HOOK_SECONDS", 0)
    calls: list[str] = []

    async def hook(end: End) -> None:
        calls.append(end.id)
        await asyncio.Event().wait()

    store, clock = FaultyStore(MemoryStore()), MovableClock()
    sessions = SessionManager(store, sweep_interval=None, clock=clock, on_end=hook)
    async with soon():
        await sessions.open()
        await sessions.create_session(user_id="u1")
        assert await sessions.erase_user("u1") == 1
        new = await sessions.create_session()
        await sessions.delete_session(new.token)
        clock.advance(60)
        await sessions.sweep()
        assert calls.count(new.id) == 2
        assert [end.id for end in await store.untold(9, timedelta(0))] == [new.id]
        await sessions.delete_session((await sessions.create_session()).token)
        await sessions.close()
    assert "the end hook failed" in caplog.text
    assert store.calls["told"] == 0
    assert store.calls["close"] == 1


async def test_a_hook_that_refuses_to_be_cancelled_does_not_hold_up_closing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing has a limit of its own; what the hook was not told of stays in the store."""
    monkeypatch.setattr(ends_module, "HOOK_SECONDS", 0)
    release = asyncio.Event()

    async def hook(end: End) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    store = FaultyStore(MemoryStore())
    sessions = SessionManager(store, sweep_interval=None, on_end=hook)
    async with soon():
        await sessions.open()
        await sessions.delete_session((await sessions.create_session()).token)
        await sessions.close()
    assert store.calls["close"] == 1
    assert "took too long" in caplog.text
    release.set()
    await some_turns()


async def test_ends_that_always_fail_starve_no_younger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many old ends the hook never takes, the next pass comes to the others, and then to those again."""
    monkeypatch.setattr(sweeper_module, "BATCH", 2)
    calls: list[str] = []
    bad: set[str] = set()

    def hook(end: End) -> None:
        calls.append(end.id)
        if end.id in bad:
            raise RuntimeError("a defect")

    clock = MovableClock()
    store = MemoryStore()
    # Ends that another process made, and crashed before it told them.
    async with SessionManager(store, sweep_interval=None, clock=clock) as other:
        made = [await other.create_session() for _ in range(7)]
        for new in made:
            await other.delete_session(new.token)
    bad |= {new.id for new in made[:5]}
    clock.advance(60)
    async with SessionManager(store, sweep_interval=None, clock=clock, on_end=hook) as sessions:
        for _ in range(4):
            await sessions.sweep()
        assert calls[:7] == [new.id for new in made]
        assert {end.id for end in await store.untold(9, timedelta(0))} == bad
        await sessions.sweep()
        await sessions.sweep()
        assert set(calls[7:]) == bad


async def test_the_memory_of_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets the failure that is longest ago, and those that the hook took in the end."""
    monkeypatch.setattr(ends_module, "MAX_FAILED", 2)
    failing = True

    def hook(end: End) -> None:
        if failing:
            raise RuntimeError("a defect")

    clock = MovableClock()
    async with SessionManager(MemoryStore(), sweep_interval=None, clock=clock, on_end=hook) as sessions:
        made = [await sessions.create_session() for _ in range(3)]
        for new in made:
            await sessions.delete_session(new.token)
        await sessions.ends.finish()
        assert list(sessions.ends.failed) == [new.id for new in made[1:]]
        failing = False
        clock.advance(60)
        await sessions.sweep()
        assert sessions.ends.failed == {}
