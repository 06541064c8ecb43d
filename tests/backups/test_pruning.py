"""Which backups are removed, and which never are."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.backups.prune import prune
from holdfast.sessions.errors import StoreRefused
from tests.backups.conftest import Place
from tests.backups.test_damage import flip, forget
from tests.imports.conftest import legacy_file

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


async def backup(place: Place, days: float) -> Path:
    """A backup that is so many days old."""
    path = (await place.backup()).path
    manifest = path / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "taken_at": (NOW - timedelta(days=days)).isoformat()}))
    return path


async def test_what_is_older_goes(file_place: Place) -> None:
    """Issue 4: seven days are kept; a dry run says the same and removes nothing."""
    new, old, older = [await backup(file_place, days) for days in (6.9, 7.1, 30)]
    dry = prune(file_place.folder, WEEK, dry=True, now=NOW)
    assert (dry.removed, dry.kept) == ([old, older], [new])
    assert len(file_place.backups()) == 3
    assert prune(file_place.folder, WEEK, now=NOW) == dry
    assert list(file_place.folder.iterdir()) == [new]


async def test_the_newest_good_one_stays(file_place: Place) -> None:
    """Issue 4: however old it is; a damaged one is not good, and is named."""
    oldest, good, damaged = [await backup(file_place, days) for days in (40, 30, 20)]
    flip(damaged)
    result = prune(file_place.folder, WEEK, now=NOW)
    assert (result.kept, result.damaged) == ([good], [damaged])
    assert result.removed == [damaged, oldest]
    assert list(file_place.folder.iterdir()) == [good]


async def test_a_damaged_one_of_today_stays(file_place: Place) -> None:
    """It is kept for its days, and the good one before it too."""
    good, damaged = await backup(file_place, 30), await backup(file_place, 0)
    flip(damaged)
    result = prune(file_place.folder, WEEK, now=NOW)
    assert (result.removed, result.damaged) == ([], [damaged])
    assert set(file_place.folder.iterdir()) == {good, damaged}


async def test_each_store_has_its_newest(file_place: Place) -> None:
    """Two stores may share a directory: neither loses its last backup to the other."""
    first = await backup(file_place, 20)
    file_place.run(f"UPDATE holdfast_control SET store_id = '{'0' * 32}'")
    second = await backup(file_place, 10)
    assert prune(file_place.folder, WEEK, now=NOW).removed == []
    assert set(file_place.folder.iterdir()) == {first, second}


async def test_each_legacy_file_has_its_newest(tmp_path: Path) -> None:
    """A legacy file has no identity but its path: one never loses its last backup to another."""
    first, second = (Place(str(legacy_file(tmp_path / name, [])), tmp_path / "backups") for name in ("a.db", "b.db"))
    gone, kept, other = [await backup(place, days) for place, days in ((first, 20), (first, 15), (second, 10))]
    result = prune(first.folder, WEEK, now=NOW)
    assert (result.removed, set(result.kept)) == ([gone], {kept, other})


async def test_what_is_not_ours_stays(file_place: Place) -> None:
    """Issue 4: nothing without our manifest is touched, whatever it is called."""
    await backup(file_place, 1)
    strange = await backup(file_place, 30)
    forget(strange)
    for name in ("notes.txt", "holiday.holdfast", "movie.mkv.partial"):
        (file_place.folder / name).write_text("mine")
        os.utime(file_place.folder / name, (0, 0))
    before = set(file_place.folder.iterdir())
    result = prune(file_place.folder, WEEK, now=NOW)
    assert result.strange == sorted([strange, file_place.folder / "holiday.holdfast"])
    assert set(file_place.folder.iterdir()) == before


async def test_leftovers_go_after_a_day(file_place: Place) -> None:
    """What killed commands left is removed and named, but not what may still be at work."""
    left, working = [(await file_place.backup()).path for _ in range(2)]
    left, working = (each.rename(each.with_name(f"{each.name}.partial")) for each in (left, working))
    for each, hours in ((left, 25), (working, 23)):
        then = (NOW - timedelta(hours=hours)).timestamp()
        for path in (*each.iterdir(), each):
            os.utime(path, (then, then))
    assert prune(file_place.folder, WEEK, now=NOW).leftovers == [left]
    assert list(file_place.folder.iterdir()) == [working]


async def test_what_others_finish_meanwhile_is_left_to_them(file_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stores may share a directory and an hour: a backup is published, or another prune removes one first."""
    new, old = await backup(file_place, 1), await backup(file_place, 30)
    working = new.rename(new.with_name(f"{new.name}.partial"))
    await backup(file_place, 2)
    iterdir = Path.iterdir

    def meanwhile(folder: Path) -> Iterator[Path]:
        if folder == working:
            working.rename(new)
            shutil.rmtree(old)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    result = prune(file_place.folder, WEEK, now=NOW)
    assert (result.removed, result.leftovers) == ([old], [])
    monkeypatch.undo()
    assert {each.path for each in file_place.backups()} == {new, *result.kept}


async def test_the_directory_may_be_a_link(file_place: Place) -> None:
    """Backups may lie on another disk."""
    disk = file_place.folder.with_name("disk")
    disk.mkdir(mode=0o700)
    file_place.folder.symlink_to(disk)
    made = await backup(file_place, 1)
    assert prune(file_place.folder, WEEK, now=NOW).kept == [made]
    await file_place.restore(made)


async def test_a_directory_that_others_may_change(file_place: Place) -> None:
    """Nothing is removed where somebody else may have put it; where there is nothing, nothing is done."""
    assert prune(file_place.folder, WEEK).kept == []
    await file_place.backup()
    file_place.folder.chmod(0o777)
    with pytest.raises(StoreRefused, match="chmod go-w"):
        prune(file_place.folder, WEEK)
