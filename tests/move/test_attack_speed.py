"""Writes that come faster than a mover applies them: it says so, and does not go on for ever."""

import asyncio

import pytest

from holdfast.move import running
from holdfast.move.state import WritesTooFast
from tests.move.bench import Place

TWO = "UPDATE sessions SET request_count = request_count + 1 WHERE id IN (SELECT id FROM sessions LIMIT 2)"


async def test_a_mover_that_falls_behind_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two more changes for each one that is applied, a start and a way back are refused; later they are not."""
    monkeypatch.setattr(running, "_NO_LESS_SECONDS", 0.2)
    await place.fill(5)
    busy = ""

    def reached(step: str) -> None:
        # Both are called where a call may block: the second in a thread of its own.
        if busy == step == "apply":
            place.in_sqlite(TWO)
        elif busy == step == "reverse done":
            asyncio.run(place.in_postgresql(TWO))

    async with place.mover(rows=1, reached=reached) as mover:
        await mover.start()
        busy = "apply"
        place.in_sqlite(TWO)
        async with asyncio.timeout(10):
            with pytest.raises(WritesTooFast):
                await mover.start()
        busy = ""
        await mover.cut_over()
        busy = "reverse done"
        await place.in_postgresql(TWO)
        async with asyncio.timeout(10):
            with pytest.raises(WritesTooFast):
                await mover.roll_back()
        busy = ""
        await mover.roll_back()
        assert (await mover.verify()).clean
