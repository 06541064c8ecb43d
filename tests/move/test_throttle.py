"""A mover stands back for a slow store, and says how far it is."""

import asyncio
from datetime import timedelta

import pytest

from holdfast.move.progress import Progress
from holdfast.move.throttle import Throttle
from tests.move.bench import Place


class Stopped(Exception):
    """Stands for the end of a process."""


class Commits:
    """Commits that take as long as they are told to, on a clock that nobody waits for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
        self.now = 0.0
        self.seconds = list(seconds)
        self.pauses: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr("holdfast.move.throttle.asyncio.sleep", self._sleep)

    async def __call__(self) -> None:
        """One commit."""
        self.now += self.seconds.pop(0)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


async def test_slow_commits_make_it_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Throttle: it pauses while commits are slow, longer the slower they are, and goes on once they are quick."""
    throttle = Throttle()
    with monkeypatch.context() as patched:
        commits = Commits(patched, 0.01, 0.06, 0.2, 0.01)
        await throttle.give_way(commits)
        assert commits.pauses == []
        await throttle.give_way(commits)
        assert len(commits.seconds) == 3, "it measures twice a second at most"
        commits.now += 1
        await throttle.give_way(commits)
        assert commits.pauses == pytest.approx([0.24, 0.5])
        assert throttle.held_back == pytest.approx(0.74)
        assert throttle.commit == pytest.approx(0.01)


async def test_a_store_that_is_always_slow_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Throttle: what is usual on a slow disk is not slow, and nothing keeps the move for more than two seconds."""
    throttle = Throttle()
    with monkeypatch.context() as patched:
        commits = Commits(patched, 0.4, 0.5, *[2.0] * 5)
        await throttle.give_way(commits)
        commits.now += 1
        await throttle.give_way(commits)
        assert commits.pauses == []
        commits.now += 1
        await throttle.give_way(commits)
        assert commits.pauses == [0.5]


async def test_a_mover_tells_how_far_it_is(place: Place) -> None:
    """Progress: rows of the copy and of the comparison come to their number; a copy that is continued begins there."""
    await place.fill(50)
    told: list[tuple[str, int, int | None]] = []

    def tell(progress: Progress) -> None:
        told.append((progress.doing, progress.rows, progress.of))

    def reached(step: str) -> None:
        if step == "copy done" and told[-1][1] >= 14:
            raise Stopped

    async with place.mover(tell=tell, rows=7, throttle=Throttle(every=0), reached=reached) as mover:
        with pytest.raises(Stopped):
            await mover.start()
    rows = max(done for doing, done, _ in told if doing == "copying")
    assert 0 < rows < 50
    told.clear()
    async with place.mover(tell=tell, rows=7) as mover:
        await mover.start()
        await mover.verify()
        total = sum(len(each) for each in (await place.both())[0].values())
        assert (told[0][0], told[0][2]) == ("copying", total)
        assert told[0][1] >= rows
        assert [each for each in told if each[0] == "copying"][-1][1:] == (total, total)
        assert [each for each in told if each[0] == "comparing"][-1][1:] == (total, total)
        assert mover.progress.seconds_left is not None


async def test_it_knows_how_long_writes_waited(place: Place) -> None:
    """Progress: after a change of the authority it says for how long no store accepted writes, step by step."""
    await place.fill(5)
    async with place.mover() as mover:
        await mover.start()
        before = mover.writes_waited
        assert before is None
        await mover.cut_over(timedelta(seconds=5))
        assert mover.writes_waited is not None
        assert 0 < mover.writes_waited < 5
        assert list(mover.times) == ["flip", "settle", "decide", "open"]
        await mover.roll_back()
        assert list(mover.times)[-1] == "follow"
