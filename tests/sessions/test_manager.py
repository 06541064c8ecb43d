"""The manager by itself: life cycle, arguments, hook and sweeper. The verbs are the suite's."""

import asyncio
import gc
import os
import weakref
from collections import ChainMap
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from holdfast.sessions import process as process_module
from holdfast.sessions.errors import InvalidArgument, OutcomeUnknown, Overloaded, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.process import get_session_manager
from holdfast.sessions.session import End, Record
from holdfast.sessions.store import Key, Store, StoreOptions
from holdfast.testing import FaultyStore, MemoryStore, MovableClock

# The life cycle


def test_a_manager_needs_no_event_loop_to_be_made() -> None:
    """An application makes it at import time."""
    assert isinstance(SessionManager(MemoryStore(), on_end=print).ends.hook, Callable)  # type: ignore[arg-type]  # mypy wants a class


@pytest.mark.parametrize("closed", [False, True])
async def test_a_manager_that_is_not_open_says_so(closed: bool) -> None:
    """Before `open` and after `close` whatever needs the store raises `StoreUnavailable`."""
    sessions = SessionManager(MemoryStore(), sweep_interval=None)
    if closed:
        async with sessions:
            pass
    calls: list[Callable[[], Awaitable[Any]]] = [
        sessions.ping,
        sessions.create_session,
        sessions.list_sessions,
        sessions.cleanup_expired_sessions,
        sessions.sweep,
        sessions.get_active_session_count,
        lambda: sessions.revoke_user_sessions("u1"),
        lambda: sessions.erase_user("u1"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="not open"):
            await call()


async def test_opening_and_closing_may_be_repeated() -> None:
    """A second open or close does nothing; closed, it opens again."""
    store = FaultyStore(MemoryStore())
    sessions = SessionManager(store)
    for times in (1, 2):
        await sessions.open()
        await sessions.open()
        await sessions.close()
        await sessions.close()
        assert (store.calls["open"], store.calls["close"]) == (times, times)


async def test_a_failed_open_leaves_nothing_open() -> None:
    """Neither a store that cannot be reached nor one that cannot note the hook stays open; a repeat works."""
    store = FaultyStore(MemoryStore())
    store.fail("open")
    store.fail("expect_hooks")
    sessions = SessionManager(store, on_end=lambda end: None)
    with pytest.raises(StoreUnavailable):
        await sessions.open()
    assert store.calls["expect_hooks"] == 0
    with pytest.raises(StoreUnavailable):
        await sessions.open()
    assert store.calls["close"] == 1
    with pytest.raises(StoreUnavailable, match="not open"):
        await sessions.ping()
    async with sessions:
        assert store.calls["ping"] == 0
        await sessions.ping()


async def test_a_body_that_fails_closes_the_manager() -> None:
    """`async with` closes whatever happened inside, and hides nothing."""
    store = FaultyStore(MemoryStore())
    with pytest.raises(RuntimeError, match="the application"):
        async with SessionManager(store):
            raise RuntimeError("the application")
    assert store.calls["close"] == 1


# Arguments


@pytest.mark.parametrize(
    "settings",
    [
        {"session_ttl_hours": 0},
        {"session_ttl_hours": float("nan")},
        {"session_ttl_hours": "24"},
        {"idle_timeout": 0},
        {"idle_timeout": -1},
        {"max_lifetime": 0},
        {"max_lifetime": timedelta(hours=1)},
        {"rotation_grace": 31},
        {"rotation_grace": -1},
        {"retention": -1},
        {"sweep_interval": 0},
        {"options": StoreOptions()},
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    """At construction, naming the setting, before anything is opened."""
    with pytest.raises(InvalidArgument, match=next(iter(settings))):
        SessionManager(MemoryStore(), **settings)


def test_a_long_lifetime_raises_the_default_cap() -> None:
    """Who asks for 60 days means it; who also sets a shorter cap contradicts himself."""
    assert SessionManager(MemoryStore(), session_ttl_hours=1440).policy.max_lifetime == timedelta(days=60)
    with pytest.raises(InvalidArgument):
        SessionManager(MemoryStore(), session_ttl_hours=1440, max_lifetime=timedelta(days=59))


@pytest.mark.parametrize("address", ["sqlite:///sessions.db", None])
def test_an_address_is_opened_by_whoever_knows_databases(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """The domain hands the address and the options on, the default ones if need be."""
    asked: list[tuple[Any, StoreOptions]] = []

    def open_store(address: Any, options: StoreOptions) -> Store:
        asked.append((address, options))
        return MemoryStore()

    monkeypatch.setattr(SessionManager, "open_store", staticmethod(open_store))
    SessionManager(address)
    SessionManager(address, options=StoreOptions(schema="app"))
    assert asked == [(address, StoreOptions()), (address, StoreOptions(schema="app"))]


def test_a_process_has_one_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call makes it from the environment; a forked child gets its own."""
    monkeypatch.setattr(process_module, "_managers", {})
    monkeypatch.setattr(SessionManager, "from_environment", staticmethod(lambda: SessionManager(MemoryStore())))
    mine = get_session_manager()
    assert get_session_manager() is mine
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert get_session_manager() is not mine


def test_a_forked_child_keeps_what_it_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collected in the child, the parent's manager would end connections that the parent still uses."""
    monkeypatch.setattr(process_module, "_managers", {})
    monkeypatch.setattr(process_module, "_inherited", [], raising=False)
    monkeypatch.setattr(SessionManager, "from_environment", staticmethod(lambda: SessionManager(MemoryStore())))
    inherited = weakref.ref(get_session_manager())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    get_session_manager()
    gc.collect()
    assert inherited() is not None


async def test_metadata_may_be_any_mapping() -> None:
    """As the annotations say; what is none is refused."""
    async with SessionManager(MemoryStore(), sweep_interval=None) as sessions:
        new = await sessions.create_session(metadata=MappingProxyType({"a": 1}))
        session = await sessions.update_metadata(new.token, MappingProxyType({"b": 2}))
        assert session is not None
        assert session.metadata == {"a": 1, "b": 2}
        session = await sessions.update_metadata_by_id(new.id, ChainMap({"b": None}, {"c": 3}))
        assert session is not None
        assert session.metadata == {"a": 1, "c": 3}
        others: list[Any] = [[("a", 1)], "a", 1]
        for other in others:
            with pytest.raises(InvalidArgument):
                await sessions.create_session(metadata=other)
            with pytest.raises(InvalidArgument):
                await sessions.update_metadata(new.token, other)


# When the store fails


async def test_an_unknown_outcome_reaches_the_caller() -> None:
    """It is not repeated by the manager, nor taken for an answer, and its text shows no token (S-10)."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        token, _ = await sessions.create_session()
        for method, call in (
            ("touch", sessions.validate_session),
            ("rotate", sessions.rotate_session),
            ("end", sessions.delete_session),
        ):
            store.lose(method)
            with pytest.raises(OutcomeUnknown) as caught:
                await call(token)
            assert token not in repr(caught.value)
            assert store.calls[method] == 1


async def test_a_lost_race_for_metadata_is_merged_again() -> None:
    """An update that read before another one wrote is repeated on what that one wrote."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        token, _ = await sessions.create_session()
        fault = store.stall("set_metadata")
        late = asyncio.create_task(sessions.update_metadata(token, {"late": 1}))
        await fault.arrived.wait()
        await sessions.update_metadata(token, {"early": 1})
        fault.release()
        session = await late
        assert session is not None
        assert session.metadata == {"early": 1, "late": 1}
        assert store.calls["set_metadata"] == 3


async def test_an_update_does_not_merge_for_ever() -> None:
    """Somebody else is always faster: it gives up, says so, and has changed nothing."""

    class Contested(FaultyStore):
        async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
            self.calls["set_metadata"] += 1
            # Instead of an endless loop, should it come to that.
            assert self.calls["set_metadata"] <= 1_000
            return None

    store = Contested(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        token, _ = await sessions.create_session()
        with pytest.raises(Overloaded, match="100 times"):
            await sessions.update_metadata(token, {"a": 1})
        assert store.calls["set_metadata"] == store.calls["get"] == 100


async def test_an_update_outlasts_a_rotation() -> None:
    """Rotated between its reading and its writing, the session still gets the change."""
    store = FaultyStore(MemoryStore())
    async with SessionManager(store, sweep_interval=None) as sessions:
        token, _ = await sessions.create_session()
        fault = store.stall("set_metadata")
        update = asyncio.create_task(sessions.update_metadata(token, {"a": 1}))
        await fault.arrived.wait()
        assert await sessions.rotate_session(token)
        fault.release()
        session = await update
        assert session is not None
        assert session.metadata == {"a": 1}


# The hook


async def test_closing_waits_for_the_hook() -> None:
    """Ends that this process made are told before the store closes, by function or coroutine function."""
    heard: list[str] = []

    async def hook(end: End) -> None:
        await asyncio.sleep(0)
        heard.append(end.id)

    async with SessionManager(MemoryStore(), sweep_interval=None, on_end=hook) as sessions:
        made = [await sessions.create_session() for _ in range(3)]
        for new in made:
            await sessions.delete_session(new.token)
    assert heard == [new.id for new in made]


async def test_ending_does_not_wait_for_the_hook() -> None:
    """A slow hook delays no caller."""
    release = asyncio.Event()

    async def hook(end: End) -> None:
        await release.wait()

    async with SessionManager(MemoryStore(), sweep_interval=None, on_end=hook) as sessions:
        for _ in range(2):
            token, _ = await sessions.create_session()
            assert await sessions.delete_session(token)
        release.set()


async def test_a_cancelled_erase_does_not_stop_the_telling() -> None:
    """Whoever gives up waiting for the hook takes nobody's ends along (promise 7)."""
    heard: list[str | None] = []
    called, release = asyncio.Event(), asyncio.Event()

    async def hook(end: End) -> None:
        called.set()
        await release.wait()
        heard.append(end.user_id)

    async with SessionManager(MemoryStore(), sweep_interval=None, on_end=hook) as sessions:
        for user in ("u1", "u2"):
            await sessions.create_session(user_id=user)
        erasing = asyncio.create_task(sessions.erase_user("u1"))
        await called.wait()
        erasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await erasing
        other = asyncio.create_task(sessions.erase_user("u2"))
        release.set()
        assert await other == 1
        assert heard == ["u1", "u2"]


async def test_a_store_that_fails_to_note_a_telling_is_told_again() -> None:
    """The hook hears twice rather than never."""
    heard: list[str] = []
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    async with SessionManager(
        store, sweep_interval=None, clock=clock, on_end=lambda end: heard.append(end.id)
    ) as sessions:
        new = await sessions.create_session()
        store.fail("told")
        await sessions.delete_session(new.token)
        clock.advance(60)
        await sessions.sweep()
        await sessions.sweep()
    assert heard == [new.id, new.id]


# The sweeper


async def test_the_sweeper_sweeps_again_and_again() -> None:
    """About once in its interval: it marks, renews the note of the hook, and deletes after the retention."""
    heard: list[str] = []
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    async with SessionManager(
        store, sweep_interval=60, clock=clock, on_end=lambda end: heard.append(end.reason)
    ) as sessions:
        token, _ = await sessions.create_session()
        for passes in range(1, 4):
            await pass_of(clock, 72)
            assert store.calls["expect_hooks"] == passes + 1
        assert heard == []
        clock.advance(timedelta(days=1))
        await pass_of(clock, 72)
        assert heard == ["expired"]
        assert await sessions.why_ended(token) == "expired"
        clock.advance(timedelta(hours=1))
        await pass_of(clock, 72)
        assert await sessions.why_ended(token) == "unknown"
    assert clock.sleeping == 0


async def test_the_sweeper_survives_failures(caplog: pytest.LogCaptureFixture) -> None:
    """A store that is away, and even a defect, cost one pass and a line in the log."""
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    async with SessionManager(store, sweep_interval=60, clock=clock):
        store.fail("mark_expired", error=StoreUnavailable("the database is away"))
        await pass_of(clock, 60)
        assert "the database is away" in caplog.text
        store.fail("mark_expired", error=RuntimeError("a defect"))
        await pass_of(clock, 72)
        assert "a defect" in caplog.text
        await pass_of(clock, 72)
        assert store.calls["delete_ended"] == 1


async def test_without_an_interval_nobody_sweeps() -> None:
    """Another process does it, or the application calls `sweep`."""
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    async with SessionManager(store, sweep_interval=None, clock=clock):
        clock.advance(timedelta(days=1))
        await asyncio.sleep(0)
        assert clock.sleeping == 0
        assert store.calls["mark_expired"] == 0


async def pass_of(clock: MovableClock, seconds: float) -> None:
    """Move time so that a sweeper wakes, and wait until it is asleep again."""
    await clock.until_sleeping()
    clock.advance(seconds)
    await clock.until_sleeping()


# Watching


async def test_a_watch_leaves_nothing_behind() -> None:
    """Left early, cancelled or told, it forgets its futures and its sleepers (I-12)."""
    clock = MovableClock()
    async with SessionManager(MemoryStore(), sweep_interval=None, clock=clock) as sessions:
        token, _ = await sessions.create_session()
        async with sessions.watch(token):
            pass
        async with sessions.watch(token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await clock.until_sleeping()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with sessions.watch(token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await clock.until_sleeping()
            await sessions.delete_session(token)
            await waiting
        for _ in range(3):
            await asyncio.sleep(0)
        assert clock.sleeping == 0
        assert len(sessions.watches) == 0


async def test_a_watch_waits_through_an_outage() -> None:
    """When the session's time is due and the store is away, it asks again until the store decides."""
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    async with SessionManager(store, sweep_interval=None, clock=clock) as sessions:
        token, _ = await sessions.create_session()
        async with sessions.watch(token) as watch:
            waiting = asyncio.create_task(watch.wait())
            await clock.until_sleeping()
            store.fail("standing")
            clock.advance(timedelta(days=1))
            await clock.until_sleeping()
            assert not waiting.done()
            clock.advance(1)
            end = await waiting
            assert end is not None
            assert end.reason == "expired"


async def test_a_watch_of_a_closed_manager_says_so() -> None:
    """Whoever still waits for an end gets `StoreUnavailable`, and nothing is left running."""
    sessions = SessionManager(MemoryStore(), sweep_interval=None)
    await sessions.open()
    token, _ = await sessions.create_session()
    async with sessions.watch(token) as watch:
        waiting = asyncio.create_task(watch.wait())
        await asyncio.sleep(0)
        await sessions.close()
        with pytest.raises(StoreUnavailable):
            await waiting
        with pytest.raises(StoreUnavailable):
            await watch.wait()
