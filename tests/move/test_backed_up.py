"""A store is backed up before it is left."""

from pathlib import Path

from tests.move.bench import Place


async def test_each_store_is_backed_up_before_it_is_left(place: Place, tmp_path: Path) -> None:
    """Move: a backup of the file at the start and before each cut-over, one of PostgreSQL before each way back."""
    await place.fill(5)
    told: list[str] = []
    async with place.mover(backups=tmp_path / "backups", tell=lambda progress: told.append(progress.doing)) as mover:
        await mover.start()
        await mover.cut_over()
        await mover.roll_back()
        assert len(mover.taken) == 3
        assert all(each.is_dir() for each in mover.taken)
    assert "backing up" in told
