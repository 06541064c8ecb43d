"""Commands killed at every step: the store serves on, and nothing half-done counts for anything."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from holdfast import SessionManager
from holdfast.backups.archive import read, verify
from holdfast.sessions.errors import StoreRefused
from tests.backups.conftest import Place
from tests.backups.killed import Killer

SESSIONS = 20


async def filled(place: Place) -> list[str]:
    """Tokens of new sessions that know the number 1; the first of them has ended."""
    async with place.manager() as sessions:
        tokens = [(await sessions.create_session("u", {"n": 1})).token for _ in range(SESSIONS)]
        await sessions.delete_session(tokens[0])
    return tokens


async def change(place: Place, tokens: list[str]) -> None:
    """What happens after the backup: other metadata, and another end."""
    async with place.manager() as sessions:
        await set_numbers(sessions, tokens)
        await sessions.delete_session(tokens[1])


async def numbers(sessions: SessionManager, tokens: list[str]) -> set[object]:
    """What the live sessions know, after it was seen that the store takes writes and that the ended ones are ended."""
    found = await asyncio.gather(*(sessions.validate_session(token) for token in tokens))
    assert found[:2] == [None, None]
    return {session.metadata["n"] for session in found[2:] if session is not None}


async def set_numbers(sessions: SessionManager, tokens: list[str]) -> None:
    """Give those that live the number 2."""
    await asyncio.gather(*(sessions.update_metadata(token, {"n": 2}) for token in tokens[2:]))


def trusted(place: Place) -> list[Path]:
    """What a later command would take for a backup; all of it is whole."""
    for backup in place.backups():
        verify(backup)
    for each in place.folder.glob("*.partial"):
        with pytest.raises(StoreRefused):
            read(each)
    return [backup.path for backup in place.backups()]


async def test_a_backup_killed_at_every_step(place: Place, killer: Killer) -> None:
    """Issue 4: until its last step there is no backup, then there is a whole one; the store serves on."""
    tokens = await filled(place)
    steps = killer.run("backup", place.address, str(place.folder)).steps
    assert {"begun", "verified", "described", "synced", "published"} <= set(steps)
    there = len(trusted(place))
    for at, step in enumerate(steps):
        ended = killer.run("backup", place.address, str(place.folder), at=at)
        assert ended.killed, ended
        there += step == "published"
        assert len(trusted(place)) == there, step
    async with place.manager() as sessions:
        assert await sessions.validate_session(tokens[-1])


async def test_a_restore_killed_at_every_step(place: Place, killer: Killer) -> None:
    """Issue 4: each session is as before or each as in the backup, and what ended is ended; running it again works."""
    tokens = await filled(place)
    made = (await place.backup()).path
    await change(place, tokens)
    arguments = ("restore", place.address, str(place.folder), str(made))
    # One server, open throughout.
    async with place.manager() as sessions:
        steps = (await asyncio.to_thread(killer.run, *arguments)).steps
        assert {"checked", "published", "loaded", "metadata_restored", "merged", "committed"} <= set(steps)
        assert await numbers(sessions, tokens) == {1}
        for at, step in enumerate(steps):
            await set_numbers(sessions, tokens)
            ended = await asyncio.to_thread(killer.run, *arguments, at=at)
            assert ended.killed, ended
            assert await numbers(sessions, tokens) == ({1} if step == "committed" else {2}), step
            trusted(place)
        assert (await asyncio.to_thread(killer.run, *arguments)).error is None
        assert await numbers(sessions, tokens) == {1}


@pytest.mark.parametrize("damaged", [True, False])
async def test_a_replacement_killed_at_every_step(file_place: Place, killer: Killer, damaged: bool) -> None:
    """F-48: where the file is damaged or gone, a killed restore leaves one that is refused, or none, or the new one."""
    place = file_place
    tokens = await filled(place)
    made = (await place.backup()).path
    place.lose()

    def damage() -> None:
        place.lose()
        if damaged:
            place.path.write_bytes(b"this is no database, and never was one\n" * 200)
            place.path.with_name("sessions.db-wal").write_bytes(b"the log of the damaged file")

    damage()
    steps = killer.run("restore", place.address, str(place.folder), str(made)).steps
    assert {"merged", "linked", "stood in", "cleared", "replaced"} <= set(steps)
    for at, step in enumerate(steps):
        damage()
        ended = killer.run("restore", place.address, str(place.folder), str(made), at=at)
        assert ended.killed, ended
        if step == "replaced":
            async with place.manager() as sessions:
                assert await numbers(sessions, tokens) == set(), step
        elif place.path.exists():
            with pytest.raises(StoreRefused, match="damaged or not a SQLite database"):
                await place.manager().open()
        again = killer.run("restore", place.address, str(place.folder), str(made))
        assert again.error is None, (step, again)
        async with place.manager() as sessions:
            assert await numbers(sessions, tokens) == set(), step
    assert list(place.path.parent.glob(".*")) == []


async def test_killed_at_any_moment(place: Place, killer: Killer) -> None:
    """Issue 4: not only between steps: at moments that a seed chooses, within the COPY, the VACUUM and the merge."""
    moments = random.Random(4)
    tokens = await filled(place)
    async with place.manager() as sessions:
        await asyncio.gather(*(sessions.create_session("v", {"filler": "x" * 1000}) for _ in range(3000)))
    begun = time.monotonic()
    made = (await place.backup()).path
    seconds = 2 * (time.monotonic() - begun)
    await change(place, tokens)
    common = (place.address, str(place.folder))
    async with place.manager() as sessions:
        for _ in range(8):
            await asyncio.to_thread(killer.run, "backup", *common, after=moments.uniform(0.001, seconds))
            after = moments.uniform(0.001, 2 * seconds)
            restored = await asyncio.to_thread(killer.run, "restore", *common, str(made), after=after)
            found = await numbers(sessions, tokens)
            assert len(found) == 1
            assert found == {1} or "committed" not in restored.steps
            trusted(place)
            await set_numbers(sessions, tokens)


async def test_a_prune_killed_at_every_step(file_place: Place, killer: Killer) -> None:
    """Issue 4: what is half removed does not count as a backup, and the newest good one is there throughout."""
    await filled(file_place)
    for _ in range(3):
        await file_place.backup()
    newest = max(trusted(file_place), key=lambda path: read(path).manifest.taken_at)
    steps = killer.run("prune", str(file_place.folder)).steps
    assert steps.count("removed") == 2
    for at in range(len(steps)):
        while len(file_place.backups()) < 3:
            newest = (await file_place.backup()).path
        assert killer.run("prune", str(file_place.folder), at=at).killed
        assert newest in trusted(file_place)
    assert killer.run("prune", str(file_place.folder)).error is None
    assert trusted(file_place) == [newest]
