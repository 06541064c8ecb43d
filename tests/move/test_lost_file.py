"""The SQLite file is lost during a move, or an old copy is put back: nothing old serves, and there is a way on."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import AuthorityMoved, SessionManager, StoreOptions, StoreRefused, StoreUnavailable, TwoStores
from holdfast.move.following import FollowingStore
from holdfast.move.lost_file import complete_alone, look_alone, loss, refuse_present
from holdfast.move.state import MoveRefused
from holdfast.move.status import StatusReader
from holdfast.opening import open_store
from tests.cli.command import run
from tests.move.bench import Place
from tests.move.test_files import copied, restored
from tests.support.polling import eventually
from tests.support.proxy import FaultProxy


class Stopped(BaseException):
    """Stands for the end of a process: nothing is cleaned up after it."""


def store_over(place: Place, address: str | None = None) -> FollowingStore:
    """A store over both, as a server has it."""
    two = TwoStores(place.path, address or place.address, preferred="sqlite")
    store = open_store(two, StoreOptions(deadline=2.0, connections=3))
    assert isinstance(store, FollowingStore)
    return store


def serving(place: Place, address: str | None = None) -> SessionManager:
    """A manager over both."""
    return SessionManager(store_over(place, address), sweep_interval=None)


def lose(place: Place) -> None:
    """Delete the file, with its log."""
    for path in place.path.parent.glob(f"{place.path.name}*"):
        path.unlink()


async def stopped_at(place: Place, at: str) -> None:
    """Move there, and back unless it stops before: a mover that is killed at a step."""

    def reached(step: str) -> None:
        if step == at:
            raise Stopped

    async def there_and_back() -> None:
        if (await mover.look()).sqlite.authority == "here":
            await mover.cut_over(timedelta(hours=1))
        await mover.roll_back(timedelta(hours=1))

    async with place.mover(reached=reached) as mover:
        with pytest.raises(Stopped):
            await there_and_back()
        mover._token = None
    await place.lapse()


async def test_a_lost_file_is_not_made_anew(place: Place) -> None:
    """Move 19: after the cut-over a server starts and serves without the file; an empty one would claim its place."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
    lose(place)
    async with serving(place) as manager:
        assert await manager.validate_session(tokens[0]) is not None
    with pytest.raises(StoreUnavailable, match="file is not there"):
        async with serving(place, "postgresql://nobody@127.0.0.1:9/nothing"):
            pass
    assert not place.path.exists()


def served_from_sqlite(manager: SessionManager, token: str) -> Callable[[], Awaitable[bool]]:
    """Whether a session is found, in the file."""
    store = manager.store
    assert isinstance(store, FollowingStore)

    async def served() -> bool:
        with suppress(AuthorityMoved, StoreRefused, StoreUnavailable):
            return await manager.validate_session(token) is not None and store.serving == "sqlite"
        return False

    return served


async def test_a_file_that_was_put_back_is_opened_anew(place: Place) -> None:
    """Move 19: a process that serves from PostgreSQL needs no restart to go with a roll-back to it."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
    async with serving(place) as manager:
        assert await manager.validate_session(tokens[0]) is not None
        copied(place, "right.db")
        lose(place)
        restored(place, "right.db")
        async with place.mover() as mover:
            await mover.roll_back()
        await eventually(served_from_sqlite(manager, tokens[0]), what="it serves from the file that was put back")
        assert await manager.create_session("u1")


@pytest.mark.parametrize("lost_before", [True, False])
async def test_an_old_copy_is_not_opened_anew(
    place: Place, caplog: pytest.LogCaptureFixture, lost_before: bool
) -> None:
    """Move 19: after PostgreSQL gave the authority up a process takes no older copy for the file that was entered."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        copied(place, "older.db")
        await mover.cut_over()
    if lost_before:
        copied(place, "right.db")
        lose(place)
    async with serving(place) as manager:
        assert await manager.validate_session(tokens[0]) is not None
        if lost_before:
            restored(place, "right.db")
        await stopped_at(place, "give back done")
        copied(place, "right.db")
        restored(place, "older.db")

        def refused() -> bool:
            said = [each.getMessage() for each in caplog.records]
            return any("cannot be used" in each and "older than the move" in each for each in said)

        await eventually(refused, what="the copy is refused")
        with pytest.raises((AuthorityMoved, StoreUnavailable)):
            await manager.create_session("u1")
        restored(place, "right.db")
        await eventually(served_from_sqlite(manager, tokens[0]), what="it serves from the right one")


async def test_a_file_that_is_lost_while_it_serves_is_not_made_anew(place: Place) -> None:
    """Move 19: before the cut-over nobody starts on an empty file instead of the one that held the sessions."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
    lose(place)
    with pytest.raises(StoreRefused, match="not made anew"):
        async with serving(place):
            pass
    assert not place.path.exists()
    with pytest.raises(MoveRefused, match="Restore the file"):
        await complete_alone(place.address, StoreOptions())


async def test_the_first_start_of_all_makes_the_file(place: Place) -> None:
    """Opening: where no move has ever been, a new deployment gets its file."""
    lose(place)
    async with serving(place) as manager:
        assert await manager.validate_session((await manager.create_session("u1")).token) is not None
    assert place.path.exists()


@pytest.mark.parametrize("when", ["before", "during"])
async def test_an_old_copy_takes_no_write_after_the_cut_over(place: Place, when: str) -> None:
    """Move 19: a copy from before the move, or from before its cut-over, is put back: nothing serves from it."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        if when == "before":
            copied(place, "older.db")
        await mover.start()
        if when == "during":
            copied(place, "older.db")
        await mover.cut_over()
        async with serving(place) as manager:
            restored(place, "older.db")
            # One that runs stays where it is; one that starts says what is wrong.
            assert await manager.validate_session(tokens[0]) is not None
            with pytest.raises(StoreRefused, match="both stores claim"):
                async with serving(place):
                    pass


async def test_an_old_copy_takes_no_write_after_postgresql_gave_the_authority_up(place: Place) -> None:
    """Move 19: the roll-back is decided, then an old copy put back: it is not taken for the one entered."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        copied(place, "older.db")
    await stopped_at(place, "give back done")
    copied(place, "right.db")
    restored(place, "older.db")
    with pytest.raises(StoreRefused, match="older than the move"):
        async with serving(place):
            pass
    async with StatusReader(place.path, place.address) as reader:
        await reader.read()
        assert reader.strange is not None
        assert "older than the move" in reader.strange
    async with place.mover() as mover:
        for goal in (mover.run, mover.roll_back, mover.abort):
            with pytest.raises(MoveRefused, match="older than the move"):
                await goal()
    restored(place, "right.db")
    async with serving(place) as manager:
        assert await manager.validate_session(tokens[0]) is not None
    async with place.mover() as mover:
        await mover.run()
        assert (await mover.look()).sqlite.authority == "here"


async def test_an_old_copy_that_began_to_serve_stops_when_postgresql_is_back(place: Place) -> None:
    """Move 19: while PostgreSQL is away nobody can tell; as soon as it is there again nothing is read or written."""
    tokens = await place.fill(3)
    copied(place, "older.db")
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
    restored(place, "older.db")
    async with FaultProxy(place.address) as proxy:
        proxy.refuse()
        async with serving(place, proxy.address(place.address)) as manager:
            await manager.validate_session(tokens[0])
            await proxy.pass_through()

            async def refused() -> bool:
                try:
                    await manager.get_session(tokens[0])
                except StoreRefused as refusal:
                    return "both stores claim" in str(refusal)
                return False

            await eventually(refused, what="it serves nothing")
            with pytest.raises(StoreRefused):
                await manager.create_session("u1")


@pytest.mark.parametrize(
    ("at", "may_cost"),
    [
        (None, "way back"),
        pytest.param("decide done", "cut-over", marks=pytest.mark.soak),
        pytest.param("fence done", "way back", marks=pytest.mark.soak),
        ("give back done", "after the roll-back"),
    ],
)
async def test_a_move_ends_without_its_file(place: Place, at: str | None, may_cost: str) -> None:
    """Move 19: PostgreSQL serves on with what it has, and it is said what that may cost; a copy serves nothing."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        copied(place, "older.db")
        if at is None:
            await mover.cut_over()
    if at is not None:
        await stopped_at(place, at)
    with pytest.raises(MoveRefused, match="is there"):
        await refuse_present(place.path, place.address, StoreOptions())
    lose(place)
    await refuse_present(place.path, place.address, StoreOptions())
    assert may_cost in loss(await look_alone(place.address, StoreOptions()))
    for _ in range(2):
        await complete_alone(place.address, StoreOptions())
    async with serving(place) as manager:
        assert await manager.validate_session(tokens[0]) is not None
        await manager.create_session("u1")
    place.path.with_name("older.db").replace(place.path)
    with pytest.raises(StoreRefused, match="both stores claim"):
        async with serving(place):
            pass


async def test_a_move_whose_file_was_restored_from_before_it_is_aborted(place: Place) -> None:
    """Move 19: the backup of the start is back; the move ends, what was restored serves, and it may start again."""
    tokens = await place.fill(3)
    copied(place, "older.db")
    async with place.mover() as mover:
        await mover.start()
    restored(place, "older.db")
    async with place.mover() as mover:
        with pytest.raises(MoveRefused, match="restored from a backup"):
            await mover.run()
        assert await mover.is_from_before()
        await mover.abort()
        assert not await place.in_postgresql("SELECT 1 FROM sessions")
        await mover.start()
        await mover.cut_over()
    async with serving(place) as manager:
        assert await manager.validate_session(tokens[0]) is not None


def holdfast(place: Place, folder: Path) -> Callable[..., tuple[int, str, str]]:
    """`holdfast move` on the two stores: its exit code, and what it says."""
    named = {"DATABASE_URL": place.address, "HOLDFAST_SQLITE_PATH": str(place.path)}

    def given(*arguments: str) -> tuple[int, str, str]:
        ran = run("move", *arguments, folder=folder, **named)
        return ran.returncode, ran.stdout, ran.stderr

    return given


async def test_an_operator_ends_a_move_without_its_file(place: Place, tmp_path: Path) -> None:
    """Command: refused while the file is there and without a yes; then done, and nothing to do the second time."""
    await place.fill(3)
    move = holdfast(place, tmp_path)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
    complete = ("complete", "--accept-loss-of-file")
    code, _, said = await asyncio.to_thread(move, *complete, "--yes")
    assert (code, "is the file of this move" in said) == (4, True)
    lose(place)
    code, _, said = await asyncio.to_thread(move, *complete)
    assert (code, "--yes" in said) == (2, True)
    for did in (True, False):
        code, shown, said = await asyncio.to_thread(move, *complete, "--yes", "--json")
        assert code == 0, said
        assert json.loads(shown)["did_something"] is did


async def test_an_operator_aborts_a_move_whose_file_was_restored(place: Place, tmp_path: Path) -> None:
    """Command: `abort` asks for it by name, as PostgreSQL may have what the backup has not."""
    await place.fill(3)
    copied(place, "older.db")
    async with place.mover() as mover:
        await mover.start()
    restored(place, "older.db")
    code, _, said = await asyncio.to_thread(holdfast(place, tmp_path), "abort", "--yes")
    assert (code, "serves what was restored" in said) == (0, True)
    assert not await place.in_postgresql("SELECT 1 FROM sessions")


async def test_nothing_is_restored_where_the_sessions_have_left(place: Place, tmp_path: Path) -> None:
    """Command: `db restore` makes no file that would claim the authority from PostgreSQL."""
    await place.fill(3)
    named = {"DATABASE_URL": place.address, "HOLDFAST_SQLITE_PATH": str(place.path), "SESSION_DB_TYPE": "sqlite"}

    async def restore(backup: Path) -> tuple[int, str]:
        arguments = ("db", "restore", str(backup), "--sqlite", str(place.path), "--yes")
        ran = await asyncio.to_thread(run, *arguments, folder=tmp_path, **named)
        return ran.returncode, ran.stderr

    async with place.mover(backups=tmp_path / "backups") as mover:
        await mover.start()
        backup = mover.taken[0]
    assert (await restore(backup))[0] == 0
    async with place.mover() as mover:
        await mover.cut_over()
    lose(place)
    code, said = await restore(backup)
    assert (code, "PostgreSQL has them" in said) == (4, True)
    assert not place.path.exists()
