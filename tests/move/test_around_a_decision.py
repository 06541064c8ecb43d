"""Who comes, or wakes up, in the very moment in which a move decides."""

import asyncio
import threading
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import pytest

from holdfast import SessionManager, StoreUnavailable
from holdfast.move.rows import Key
from holdfast.move.state import LeaseHeld, MoveRefused, SqliteState
from tests.move.bench import Place
from tests.move.writing import following

THERE = ("cut", "cut done", "flip", "flip done", "settle", "settle done", "decide", "decide done", "open", "open done")
BACK = ("fence", "fence done", "reverse", "give back", "give back done", "enter", "enter done", "follow", "follow done")


async def test_a_session_made_around_the_change_is_found_in_every_process(place: Place) -> None:
    """Move 24: at each step of both ways one process makes a session, and all find it and count requests on it."""
    made: dict[str, asyncio.Task[None]] = {}
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        managers = [SessionManager(following(str(place.path), place.address), sweep_interval=None) for _ in range(3)]
        await asyncio.gather(*map(stack.enter_async_context, managers))

        async def make(step: str, number: int) -> None:
            new = await managers[number % len(managers)].create_session("u1", {"at": step})
            for count, manager in enumerate(managers, 1):
                found = await manager.get_session(new.token)
                assert found is not None, step
                assert found.metadata == {"at": step}
                session = await manager.validate_session(new.token)
                assert session is not None, step
                assert session.request_count == count, step

        def begin(step: str) -> None:
            if step not in made:
                made[step] = asyncio.create_task(make(step, len(made)))

        # SQLite's steps are taken in a thread.
        async with place.mover(reached=lambda step: loop.call_soon_threadsafe(begin, step)) as mover:
            await mover.start()
            await mover.cut_over(timedelta(seconds=5))
            await mover.roll_back()
            await mover.run()
        await asyncio.gather(*made.values())
    assert {*THERE, *BACK} - {"reverse"} <= made.keys()


@pytest.mark.parametrize(
    "at",
    [
        "cut done",
        "settle done",
        *(pytest.param(each, marks=pytest.mark.soak) for each in ("apply done", "decide done")),
    ],
)
async def test_who_wakes_up_after_the_switch_changes_nothing(place: Place, at: str) -> None:
    """Move 3, 4: another mover took over and switched; what the sleeper had in mind, neither store takes from it."""
    await place.fill(10)
    asleep, wake = threading.Event(), threading.Event()

    def sleep(step: str) -> None:
        if step == at and not asleep.is_set():
            asleep.set()
            assert wake.wait(60)

    async def cut() -> None:
        async with place.mover(reached=sleep) as sleeper:
            await sleeper.cut_over(timedelta(seconds=60))

    async with place.mover() as mover:
        await mover.start()
        place.in_sqlite("UPDATE sessions SET request_count = 41 WHERE user_id = 'u1'")
    sleeping = asyncio.create_task(asyncio.to_thread(asyncio.run, cut()))
    await asyncio.to_thread(asleep.wait)
    await place.lapse()
    async with place.mover(wait=5.0) as mover, place.manager("postgresql") as manager:
        await mover.cut_over(timedelta(seconds=60))
        new = await manager.create_session("u1")
        before = await place.both()
        wake.set()
        with suppress(LeaseHeld, MoveRefused, StoreUnavailable):
            await sleeping
        assert (await place.both())[1] == before[1]
        assert place.in_sqlite("SELECT authority FROM holdfast_control") == [("there",)]
        assert await manager.validate_session(new.token) is not None
        await place.lapse()
        await mover.run()
        assert (await mover.verify()).clean


async def test_a_look_that_takes_longer_than_a_move_back_and_there_finds_nothing_strange(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Move 3: another mover rolls back and cuts over between the looks at the two stores; the file is no old one."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over(timedelta(seconds=60))

    async def back_and_there() -> None:
        async with place.mover(wait=5.0) as other:
            await other.roll_back(timedelta(seconds=60))
            await other.cut_over(timedelta(seconds=60))

    async with place.mover() as mover:
        look, looks = mover._sqlite.look, 0

        def late() -> SqliteState:
            nonlocal looks
            looks += 1
            if looks == 1:
                asyncio.run(back_and_there())
            return look()

        monkeypatch.setattr(mover._sqlite, "look", late)
        found = await mover.look()
        assert (found.sqlite.authority, found.postgresql.phase) == ("there", "switched")
        assert found.sqlite.flips == found.postgresql.settled


async def test_who_comes_too_late_to_open_calls_no_difference_what_clients_wrote(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Move 3, 4: while a mover compares before it opens, another one has opened, and clients have written there."""
    await place.fill(3)

    class Stopped(Exception):
        pass

    def stop(step: str) -> None:
        if step == "decide done":
            raise Stopped

    async def open_and_write() -> None:
        await place.lapse()
        async with place.mover(wait=5.0) as other, place.manager("postgresql") as manager:
            await other.run()
            await manager.create_session("u1")

    async with place.mover(reached=stop) as mover:
        await mover.start()
        with pytest.raises(Stopped):
            await mover.cut_over(timedelta(seconds=60))
    async with place.mover() as late:
        touched = late._sqlite.touched

        def slowly(after: int) -> dict[str, list[Key]]:
            asyncio.run(open_and_write())
            return touched(after)

        monkeypatch.setattr(late._sqlite, "touched", slowly)
        with pytest.raises(LeaseHeld):
            await late.run()
        assert (await late.look()).postgresql.phase == "switched"


@pytest.mark.parametrize("at", ["aborting", "remove"])
async def test_a_flip_that_comes_during_an_abort_leaves_no_write_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Move 3: whoever began a cut-over wakes up while another one aborts the move; SQLite accepts writes after it."""
    await place.fill(3)
    async with place.mover() as late, place.manager() as manager:
        await late.start()
        token = await late._leased()
        await late._begin_cut(token, timedelta(seconds=60))
        await place.lapse()

        def wake(step: str) -> None:
            if step == f"{at} done":
                late._sqlite.flip(token)

        async with place.mover(reached=wake) as other:
            remove = other._sqlite.remove

            def removing(token: int) -> None:
                wake("remove done")
                remove(token)

            monkeypatch.setattr(other._sqlite, "remove", removing)
            await other.abort()
        assert place.in_sqlite("SELECT authority FROM holdfast_control") == [("here",)]
        assert await manager.create_session("u1")
