"""Two stores that are named together are opened as one."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import AuthorityMoved, InvalidArgument, SessionManager, StoreRefused, TwoStores
from holdfast.move.following import FollowingStore
from holdfast.opening import open_store, store_of
from holdfast.sessions.observer import Observed
from holdfast.sessions.statistics import Statistical
from holdfast.sessions.store import MovableStore, StoreOptions
from holdfast.sessions.sweeper import TakesClearTokens
from holdfast.settings import Settings
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.move.bench import Place
from tests.sockets.server import Server, running
from tests.support.polling import eventually


def verbs() -> Iterator[str]:
    """What a store can be asked, the optional parts included."""
    for contract in (MovableStore, Observed, Statistical, TakesClearTokens):
        for part in contract.__mro__:
            yield from (name for name in vars(part) if not name.startswith("_") and part is not object)
        yield from (name for name in inspect.get_annotations(contract) if not name.startswith("_"))
    # What a store of the legacy form says, by an attribute that others need not have.
    yield "clear_tokens"


def test_every_verb_of_the_contract_is_passed_on() -> None:
    """Following: whatever a store can be asked, the two of them as one can be asked too."""
    store = open_store(TwoStores("x.db", "postgresql://nobody@127.0.0.1:9/x"), StoreOptions())
    assert isinstance(store, FollowingStore)
    asked = set(verbs())
    assert {"touch", "authority", "load", "statistics", "look_for_clear_tokens", "listen"} <= asked
    assert {name for name in asked if not hasattr(store, name)} == set()


@pytest.mark.parametrize("serving", ["sqlite", "postgresql"])
async def test_session_db_type_decides_before_any_move(place: Place, serving: str) -> None:
    """Settings: with both named, SESSION_DB_TYPE says which serves until a move has taken place, and not after it."""
    named = {
        "DATABASE_URL": place.address,
        "HOLDFAST_SQLITE_PATH": str(place.path),
        "SESSION_DB_TYPE": serving,
        "HOLDFAST_SWEEP_INTERVAL_SECONDS": "none",
    }
    settings = Settings.from_environment(named)
    store = store_of(settings)
    assert isinstance(store, FollowingStore)
    async with settings.manager(store):
        assert store.serving == serving
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
    async with settings.manager(again := store_of(settings)) as manager:
        assert isinstance(again, FollowingStore)
        assert again.serving == "postgresql"
        assert await manager.validate_session((await manager.create_session("u1")).token)


async def test_without_it_a_first_start_is_refused(place: Place) -> None:
    """Settings: with both named and neither chosen nothing starts, and the refusal says what to set."""
    two = TwoStores(place.path, place.address)
    with pytest.raises(StoreRefused, match="SESSION_DB_TYPE"):
        await SessionManager(two, sweep_interval=None).open()


def test_the_two_are_a_file_and_postgresql() -> None:
    """Opening: other pairs of addresses are a mistake, told before anything is opened."""
    post = "postgresql://nobody@127.0.0.1:9/x"
    for two in (TwoStores(post, post), TwoStores("x.db", "y.db")):
        with pytest.raises(InvalidArgument, match="of the two stores"):
            SessionManager(two)


async def test_a_legacy_file_may_be_the_one_that_serves(tmp_path: Path, place: Place) -> None:
    """Opening: an application's own table is served behind PostgreSQL's address; its tokens and new ones open."""
    path = legacy_file(tmp_path / "legacy.db")
    old = OldSessionManager(path)
    token = old.create_session("u1", {"lang": "ko"})
    two = TwoStores(path, place.address, preferred="sqlite")
    async with SessionManager(two, sweep_interval=None) as manager:
        found = await manager.validate_session(token)
        assert found is not None
        assert found.metadata == {"lang": "ko"}
        new = await manager.create_session("u2")
        assert old.validate_session(new.token)
        assert await manager.delete_session(token)
        assert await manager.why_ended(token) == "revoked"
        assert await manager.get_active_session_count() == 1


async def test_a_session_begun_beside_a_legacy_file_lives_in_postgresql_too(tmp_path: Path, place: Place) -> None:
    """Opening: the digest with its token beside it, which a legacy file needs, is any other store's digest as well."""
    path = legacy_file(tmp_path / "legacy.db")
    two = TwoStores(path, place.address, preferred="postgresql")
    async with SessionManager(two, sweep_interval=None) as manager:
        new = await manager.create_session("u1")
        assert await manager.validate_session(new.token) is not None
        rotated = await manager.rotate_session(new.token)
        assert rotated is not None
        assert await manager.validate_session(new.token) is None
        assert await manager.delete_session(rotated.token)
    assert OldSessionManager(path).get_active_session_count() == 0


async def test_a_process_on_the_store_to_be_entered_is_told_to_wait(place: Place) -> None:
    """Move 28: a manager of PostgreSQL alone is told of the move and what to do, and opens once it has come there."""
    waiting = SessionManager(place.address, sweep_interval=None)
    async with place.mover() as mover:
        await mover.start()
        with pytest.raises(AuthorityMoved, match="name both stores"):
            await waiting.open()
        await mover.cut_over()
        async with waiting:
            assert await waiting.validate_session((await waiting.create_session("u1")).token)
        left = SessionManager(place.path, sweep_interval=None)
        with pytest.raises(AuthorityMoved, match="name both stores"):
            await left.open()
        await mover.complete()
        # Nobody will enter it any more.
        with pytest.raises(StoreRefused, match="moved to another store"):
            await left.open()


async def test_a_server_of_postgresql_waits_for_the_move(place: Place, tmp_path: Path) -> None:
    """Move 28: started before the cut-over it stays up and not ready, serves after it, and not after a roll-back."""
    async with place.mover() as mover:
        await mover.start()
        async with running(tmp_path, "server", {"DATABASE_URL": place.address}, waits=True) as server:
            await eventually(lambda: _says(server, "elsewhere", 503), what="it waits")
            assert (await server.get("/healthz")).status_code == 200
            await mover.cut_over()
            await eventually(lambda: _says(server, "ok", 200), what="it serves")
            await mover.roll_back()
            await eventually(lambda: _says(server, "elsewhere", 503), what="it does not serve")
            await mover.cut_over()
            await eventually(lambda: _says(server, "ok", 200), what="it serves again")
            assert server.process.poll() is None
            assert "another store holds the authority" in server.written()


async def _says(server: Server, reason: str, status: int) -> bool:
    answer = await server.get("/readyz")
    return (answer.json()["reason"], answer.status_code) == (reason, status)
