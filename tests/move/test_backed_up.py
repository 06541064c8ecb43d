"""A store is backed up before it is left, and the backups stay until nobody can want to go back."""

import asyncio
import json
from pathlib import Path

from tests.cli.command import run
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


async def test_backups_stay_until_the_move_is_over(place: Place, tmp_path: Path) -> None:
    """Move 41: however old they are, `db prune` removes none of them while a move is under way; after it, it does."""
    folder = tmp_path / "backups"
    named = {"DATABASE_URL": place.address, "HOLDFAST_SQLITE_PATH": str(place.path), "SESSION_DB_TYPE": "sqlite"}

    async def prune(**changes: str) -> tuple[int, int]:
        arguments = ("db", "prune", "--keep-days", "1", "--json", "--directory", str(folder))
        ran = await asyncio.to_thread(run, *arguments, folder=tmp_path, **{**named, **changes})
        assert ran.returncode == 0, ran.stderr
        said = json.loads(ran.stdout)
        return len(said["kept"]), len(said["removed"])

    async with place.mover(backups=folder) as mover:
        await mover.start()
        await mover.cut_over()
        await mover.roll_back()
        for each in mover.taken:
            manifest = each / "manifest.json"
            values = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**values, "taken_at": f"2020-01-01T{values['taken_at'][11:]}"}))
        assert await prune() == (3, 0)
        # One store that is away keeps none of them from staying.
        assert await prune(DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing") == (3, 0)
        await mover.abort()
    assert await prune() == (2, 1)
