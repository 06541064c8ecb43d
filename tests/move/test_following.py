"""A process follows the authority from one store to the other, in process and within a call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from holdfast import AuthorityMoved, SessionManager, StoreRefused, StoreUnavailable, TwoStores
from holdfast.move.following import FollowingStore
from holdfast.sessions.session import Record
from holdfast.sessions.store import Held, Key, StoreOptions
from tests.conftest import MigratedDatabases
from tests.move.authority import Pair
from tests.move.bench import Place
from tests.stores.test_following import movable
from tests.support.polling import eventually

NOBODY = "postgresql://nobody@127.0.0.1:9/nothing"


@pytest.fixture
async def pair(tmp_path: Path, migrated_database: MigratedDatabases) -> Pair:
    """Two stores without a session; no move has taken place."""
    return await Pair.made(tmp_path / "sessions.db", migrated_database(None))


@asynccontextmanager
async def following(
    pair: Pair, preferred: str | None = "sqlite", deadline: float = 10.0
) -> AsyncIterator[tuple[SessionManager, FollowingStore]]:
    """A manager over both."""
    sides = movable(pair.path, deadline), movable(pair.address, deadline)
    store = FollowingStore(*sides, preferred=preferred, deadline=deadline)
    async with SessionManager(store, sweep_interval=None) as manager:
        yield manager, store


async def test_a_write_waits_for_the_decision_and_is_made_where_it_went(pair: Pair) -> None:
    """Following: while a move decides writes wait and reads answer; then both are the other store's."""
    await pair.postgresql("there")
    async with following(pair) as (manager, store):
        old = await manager.create_session("u1")
        pair.sqlite("pending")
        waiting = asyncio.create_task(manager.create_session("u2"))
        assert await manager.get_session(old.token) is not None
        assert not waiting.done()
        pair.sqlite("there")
        await pair.postgresql("here")
        new = await waiting
        assert store.serving == "postgresql"
        assert await manager.get_session(new.token) is not None
        # Nothing was copied here: what only the left store holds is no answer any more.
        assert await manager.get_session(old.token) is None
        assert await manager.get_active_session_count() == 1


async def test_it_follows_back(pair: Pair) -> None:
    """Following: a roll-back is followed like a cut-over, by readers that write nothing too."""
    await pair.give("postgresql")
    async with following(pair, None) as (manager, store):
        there = await manager.create_session("u1")
        await pair.postgresql("pending")
        assert await manager.get_session(there.token) is not None
        await pair.postgresql("there")
        pair.sqlite("here")
        assert await manager.get_session(there.token) is None
        assert store.serving == "sqlite"
        assert await manager.validate_session((await manager.create_session("u1")).token)


async def test_what_is_read_of_a_store_that_was_left_and_entered_meanwhile_is_read_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following: an idle process reads in the last moment of a move there and back; what ended there is not live."""
    await pair.postgresql("there")
    async with following(pair) as (manager, store):
        new = await manager.create_session("u1")
        get, reads = store._switch.current.store.get, 0

        async def late(key: Key) -> Record | None:
            nonlocal reads
            reads += 1
            if reads > 1:
                return await get(key)
            await pair.give("postgresql")
            found = await get(key)
            # What the roll-back takes along.
            pair.end(new.id)
            await pair.give("sqlite")
            return found

        monkeypatch.setattr(store._switch.current.store, "get", late)
        assert await manager.get_session(new.token) is None
        again = reads
        assert await manager.get_session(new.token) is None
        # Once for each change, and not for each call after it.
        assert reads == again + 1


async def test_many_callers_move_at_once(pair: Pair) -> None:
    """Following: of calls that come all the time none fails; each is in exactly one store."""
    await pair.postgresql("there")
    async with following(pair) as (manager, store):
        made: list[UUID] = []

        async def create() -> None:
            while len(made) < 300:
                new = await manager.create_session("u1")
                made.append(UUID(new.id))

        callers = [asyncio.create_task(create()) for _ in range(10)]
        await eventually(lambda: len(made) > 20, what="sessions")
        pair.sqlite("pending")
        before = len(made)
        pair.sqlite("there")
        await pair.postgresql("here")
        await asyncio.gather(*callers)
        assert len(set(made)) == len(made) >= 300
        assert store.serving == "postgresql"
        assert len(made) - before - len(callers) <= await manager.get_active_session_count() <= len(made) - 20


async def test_a_move_that_never_decides_is_a_clear_failure(pair: Pair) -> None:
    """Following: past the deadline a write says that nothing was done, and reads still answer."""
    await pair.postgresql("there")
    async with following(pair) as (manager, store):
        old = await manager.create_session("u1")
        pair.sqlite("pending")
        # Short for the one that waits in vain, and for that only.
        store._deadline = 0.5
        with pytest.raises(AuthorityMoved):
            await manager.create_session("u2")
        assert await manager.get_session(old.token) is not None
        pair.sqlite("here")
        store._deadline = 10.0
        assert await manager.validate_session(old.token)


async def test_an_idle_process_follows_too(pair: Pair) -> None:
    """Following: without a call, a process notices within a second or two, and looks at what it watches."""
    await pair.postgresql("there")
    async with following(pair) as (manager, store):
        heard: list[object] = []
        listening = asyncio.create_task(store.listen(heard.append))
        await eventually(lambda: None in heard, what="a hint at all")
        heard.clear()
        await pair.give("postgresql")
        await eventually(lambda: store.serving == "postgresql", what="the move")
        await eventually(lambda: None in heard, what="a hint at all")
        listening.cancel()
        assert await manager.get_active_session_count() == 0


async def test_a_look_that_fails_ends_no_following(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Following: a defect in one look is told to the log, and the next one finds the move."""
    await pair.postgresql("there")
    async with following(pair) as (_, store):
        look, looks = store._switch._find_conflict, 0

        async def failing() -> None:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise RuntimeError("a defect")
            await look()

        monkeypatch.setattr(store._switch, "_find_conflict", failing)
        await eventually(lambda: looks > 0, what="a look")
        await pair.give("postgresql")
        await eventually(lambda: store.serving == "postgresql", what="the move")
    assert "a defect" in caplog.text


async def test_two_stores_in_use_without_a_move_need_a_word(pair: Pair) -> None:
    """Following: before any move the environment says which store serves; without it nothing starts."""
    with pytest.raises(StoreRefused, match="SESSION_DB_TYPE"):
        async with following(pair, None):
            pass
    async with following(pair, "postgresql") as (_, store):
        assert store.serving == "postgresql"


async def test_two_claims_after_a_move_are_refused(pair: Pair) -> None:
    """Following: a restored old copy of a store that was left does not serve beside the one that holds it."""
    await pair.give("postgresql")
    pair.sqlite("here")
    with pytest.raises(StoreRefused, match="both stores claim"):
        async with following(pair):
            pass


async def test_a_cut_over_between_the_looks_of_a_start_is_no_second_claim(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following: a process that starts in the midst of a cut-over serves from where it led, and refuses nothing."""
    await pair.postgresql("there")
    sides = movable(pair.path, 10.0), movable(pair.address, 10.0)
    authority, looks = sides[1].authority, iter(range(1000))

    async def late() -> Held:
        if next(looks) == 0:
            await pair.give("postgresql")
        return await authority()

    monkeypatch.setattr(sides[1], "authority", late)
    store = FollowingStore(*sides, preferred="sqlite", deadline=10.0)
    async with SessionManager(store, sweep_interval=None) as manager:
        assert store.serving == "postgresql"
        assert await manager.create_session("u1")


async def test_nothing_falls_back_to_sqlite(pair: Pair) -> None:
    """Following: before a move an unreachable PostgreSQL that should serve is an error, not SQLite's turn."""
    away = Pair(pair.path, NOBODY)
    for preferred in ("postgresql", None):
        with pytest.raises(StoreUnavailable):
            async with following(away, preferred, deadline=0.2):
                pass
    async with following(away, "sqlite") as (manager, _):
        assert await manager.create_session("u1")


async def test_a_store_that_was_left_does_not_serve_alone(pair: Pair) -> None:
    """Authority: a process that knows only the store that was left refuses to start, and says what to set."""
    await pair.give("postgresql")
    with pytest.raises(StoreRefused, match="DATABASE_URL"):
        await SessionManager(pair.path, options=StoreOptions()).open()
    await pair.give("sqlite")
    with pytest.raises(StoreRefused, match="HOLDFAST_SQLITE_PATH"):
        await SessionManager(pair.address, options=StoreOptions()).open()


async def test_a_store_that_goes_away_before_any_move_is_not_replaced(pair: Pair) -> None:
    """Following: there is no silent fall-back; while the one that serves is away, the other one stays what it is."""
    async with following(pair, deadline=2.0) as (manager, store):
        await manager.create_session("u1")
        for path in pair.path.parent.glob(f"{pair.path.name}*"):
            path.rename(path.with_name(f"away-{path.name}"))
        with pytest.raises(StoreRefused):
            await manager.create_session("u2")
        for _ in range(3):
            await store._switch.found(store._switch.current)
        assert store.serving == "sqlite"


async def test_what_a_sweep_removes_is_removed_on_the_other_side(place: Place) -> None:
    """Move 21, 26: the sweep marks and deletes in the store that serves, and what it did is taken to the other one."""
    await place.fill(20)
    expire = "UPDATE sessions SET expires_at = created_at, last_activity = created_at WHERE user_id = '{}'"
    two = TwoStores(place.path, place.address, preferred="sqlite")
    async with (
        SessionManager(two, sweep_interval=None, retention=0) as manager,
        SessionManager(movable(place.path, 10.0), sweep_interval=None, retention=0) as lite,
        SessionManager(movable(place.address, 10.0), sweep_interval=None, retention=0) as post,
        place.mover() as mover,
    ):
        await mover.start()
        for other, left, user, goal in ((post, lite, "u1", mover.cut_over), (lite, post, "u2", mover.roll_back)):
            statement = expire.format(user)
            if left is lite:
                place.in_sqlite(statement)
            else:
                await place.in_postgresql(statement)
            with pytest.raises(AuthorityMoved):
                await other.sweep()
            assert (await manager.sweep()).deleted
            assert not [each for each in await manager.list_sessions() if each.user_id == user]
            await goal()
            ours, theirs = await place.both()
            assert ours == theirs
            with pytest.raises(AuthorityMoved):
                await left.sweep()
