"""Backups that are not what they were, and disks that take no more: one clear sentence, and nothing lost."""

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.backups import room
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from tests.backups.conftest import Place
from tests.backups.killed import Killer

FULL = re.compile(r"StoreUnavailable: nothing more can be written in .* about [\d,]+ bytes are needed: free some space")


def data_of(path: Path) -> Path:
    """The file with the sessions."""
    return next(each for each in path.iterdir() if each.name.startswith("sessions."))


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = data_of(path)
    whole = bytearray(data.read_bytes())
    whole[len(whole) // 2] ^= 1
    data.write_bytes(whole)


def truncate(path: Path) -> None:
    """Lose the end."""
    os.truncate(data_of(path), data_of(path).stat().st_size // 2)


def remove(path: Path) -> None:
    """Lose a file."""
    data_of(path).unlink()


def link(path: Path) -> None:
    """A link in the place of the data."""
    data = data_of(path)
    data.rename(path / "elsewhere")
    data.symlink_to(path / "elsewhere")


def forget(path: Path) -> None:
    """Lose the manifest."""
    (path / "manifest.json").unlink()


def write_strange(path: Path) -> None:
    """Another program's manifest."""
    (path / "manifest.json").write_text('{"name": "an extension of a browser", "version": 3}')


def escape(path: Path) -> None:
    """A manifest that leads out of its folder."""
    manifest = path / "manifest.json"
    values = json.loads(manifest.read_text())
    values["files"] = {"../sessions.db": next(iter(values["files"].values()))}
    manifest.write_text(json.dumps(values))


def open_to_all(path: Path) -> None:
    """Anyone may write to it."""
    data_of(path).chmod(0o666)


DAMAGES = {
    flip: "is damaged: .* is not as it was written",
    truncate: "is damaged: .* is not as it was written",
    remove: "is damaged: .* cannot be read",
    link: "is a symbolic link",
    forget: "has no manifest",
    write_strange: "no backup of Holdfast's",
    escape: "no backup of Holdfast's",
    open_to_all: "others than the owner may change",
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.items(), ids=lambda each: getattr(each, "__name__", ""))
async def test_a_damaged_backup_is_refused(place: Place, damage: Callable[[Path], None], sentence: str) -> None:
    """Issue 4: whatever became of it, the restore says so and changes nothing."""
    async with place.manager() as sessions:
        new = await sessions.create_session("u", {"n": 1})
        made = await place.backup()
        await sessions.update_metadata(new.token, {"n": 2})
        damage(made.path)
        with pytest.raises(StoreRefused, match=sentence):
            await place.restore(made.path)
        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"n": 2}
    assert [each.name for each in place.folder.iterdir()] == [made.path.name]


async def test_what_is_no_backup_is_refused(place: Place, tmp_path: Path) -> None:
    """A file, a path that leads nowhere, and a backup that was never finished."""
    made = await place.backup()
    unfinished = made.path.rename(made.path.with_name(f"{made.path.name}.partial"))
    plain = tmp_path / "plain.holdfast"
    plain.write_text("{}")
    for path, sentence in ((unfinished, "never finished"), (plain, "no manifest"), (tmp_path / "x", "does not exist")):
        with pytest.raises(StoreRefused, match=sentence):
            await place.restore(path)


async def test_a_backup_is_its_owners(place: Place) -> None:
    """S-82: folders 0700, files 0600, whatever the umask; no token is in them."""
    before = os.umask(0)
    try:
        async with place.manager() as sessions:
            token = (await sessions.create_session("u")).token
        made = await place.backup()
    finally:
        os.umask(before)
    assert {each.stat().st_mode & 0o777 for each in (place.folder, made.path)} == {0o700}
    assert {each.stat().st_mode & 0o777 for each in made.path.iterdir()} == {0o600}
    assert not any(token.encode() in each.read_bytes() for each in made.path.iterdir())


async def test_a_directory_that_others_may_write_to_is_refused(place: Place) -> None:
    """S-82: neither a backup nor a prune trusts it."""
    place.folder.mkdir()
    place.folder.chmod(0o777)
    with pytest.raises(StoreRefused, match="chmod go-w"):
        await place.backup()


async def test_there_has_to_be_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 4: too little free space is found before anything is written."""
    monkeypatch.setattr(room, "SPARE_BYTES", 1 << 60)
    with pytest.raises(
        StoreUnavailable, match=r"no room .* bytes are needed.*free \d[\d,]* more, .*--directory or HOLD"
    ):
        await place.backup()
    assert list(place.folder.iterdir()) == []


async def test_a_disk_that_fills_up(place: Place, killer: Killer) -> None:
    """Issue 4: a disk that takes no more leaves no backup, half or whole, and no harm to the store."""
    async with place.manager() as sessions:
        tokens = [(await sessions.create_session("u", {"filler": "x" * 3000})).token for _ in range(60)]
        ended = await asyncio.to_thread(killer.run, "backup", place.address, str(place.folder), limit=50_000)
        assert ended.error is not None
        assert FULL.match(ended.error)
        assert ended.error.endswith("or give another directory with --directory or HOLDFAST_BACKUP_DIRECTORY")
        assert list(place.folder.iterdir()) == []
        assert await sessions.validate_session(tokens[0])


async def test_a_disk_that_fills_up_during_a_restore(file_place: Place, killer: Killer) -> None:
    """Issue 4: where the store needs the room nothing is changed, and a lost store does not come back by half."""
    async with file_place.manager() as sessions:
        tokens = [(await sessions.create_session("u", {"filler": "x" * 3000})).token for _ in range(60)]
        made = await file_place.backup()
        for token in tokens:
            await sessions.update_metadata(token, {"filler": "y"})
        arguments = ("restore", file_place.address, str(file_place.folder), str(made.path))
        ended = await asyncio.to_thread(killer.run, *arguments, limit=200_000)
        assert ended.error is not None
        assert ended.error.startswith("StoreUnavailable: ")
        found = [await sessions.validate_session(token) for token in tokens]
        assert all(session is not None and session.metadata == {"filler": "y"} for session in found)
    file_place.lose()
    ended = killer.run(*arguments, limit=50_000)
    assert ended.error is not None
    assert FULL.match(ended.error)
    assert not file_place.path.exists()
    assert killer.run(*arguments).error is None
