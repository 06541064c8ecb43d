"""An operator's Ctrl-C in the middle of a change of authority: writes wait for nobody to come back."""

import asyncio

import pytest

from holdfast.move.mover import Mover
from tests.move.bench import Place


def interrupting(place: Place, at: str) -> tuple[Mover, list[asyncio.Task[None]]]:
    """A mover whose task is cancelled when it comes to a step."""
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[None]]()

    def reached(step: str) -> None:
        if step == at:
            loop.call_soon_threadsafe(tasks[0].cancel)

    return place.mover(reached=reached), tasks


@pytest.mark.parametrize("at", ["cut done", "flip done", "settle done", "decide done", "open"])
async def test_a_cut_over_that_is_interrupted_is_decided(place: Place, at: str) -> None:
    """Move: cancelled while writes wait, a cut-over first comes to its decision; it can be given again."""
    tokens = await place.fill(5)
    mover, tasks = interrupting(place, at)
    async with mover:
        await mover.start()
        tasks.append(asyncio.create_task(mover.cut_over()))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        look = await mover.look()
        serving = "sqlite" if look.sqlite.authority == "here" else "postgresql"
        assert (look.sqlite.authority, look.postgresql.phase) in (
            ("here", "cutting"),
            ("here", "following"),
            ("there", "switched"),
        )
        async with place.manager(serving) as manager:
            assert await manager.validate_session(tokens[0]) is not None
    async with place.mover() as another:
        await another.cut_over()
        assert (await another.look()).postgresql.phase == "switched"


@pytest.mark.parametrize("at", ["fence done", "give back done", "enter"])
async def test_a_roll_back_that_is_interrupted_comes_to_its_end(place: Place, at: str) -> None:
    """Move: cancelled while writes wait, a roll-back first lets SQLite accept them."""
    tokens = await place.fill(5)
    mover, tasks = interrupting(place, at)
    async with mover:
        await mover.start()
        await mover.cut_over()
        tasks.append(asyncio.create_task(mover.roll_back()))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        look = await mover.look()
        assert (look.sqlite.authority, look.postgresql.phase) == ("here", "following")
        async with place.manager() as manager:
            assert await manager.validate_session(tokens[0]) is not None
