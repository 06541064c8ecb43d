"""The disk under SQLite: full, read-only, damaged, taken away; and a library that is not to be trusted."""

import asyncio
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast import HoldfastError, SessionManager, StoreRefused, StoreUnavailable
from holdfast.sql import schema, sqlite
from holdfast.sql.sqlite_library import refuse_library
from tests.faults.sqlite_bench import (
    become_nobody,
    free_files,
    hand_to_nobody,
    in_process,
    limit_files,
    log_of,
    opened,
    plain,
    small_disk,
    value,
    whole,
)
from tests.support import binaries

# Full


async def use_a_full_disk(path: Path, fill: Callable[[Path], None], free: Callable[[Path], None]) -> None:
    """What an application meets while there is no space, and after there is some again."""
    async with opened(path) as manager:
        kept = await manager.create_session("u1", {"a": 1})
        revoked = await manager.create_session("u2")
        filler = (await manager.create_session("u3")).token
        assert await manager.validate_session(kept.token) is not None
        fill(path)
        failures = 0
        for _ in range(2000):
            try:
                # The smallest write there is: when it does not fit, none does.
                await manager.validate_session(filler)
            except StoreUnavailable:
                failures += 1
                if failures == 3:
                    break
        assert failures == 3, "the disk was never full"
        for call in (
            manager.validate_session(kept.token),
            manager.delete_session(revoked.token),
            manager.rotate_session(kept.token),
            manager.revoke_user_sessions("u2"),
            manager.ping(),
        ):
            with pytest.raises(StoreUnavailable, match=r"free some space|the disk answered|may or may not"):
                await call
        session = await manager.get_session(kept.token)
        assert session is not None
        assert session.request_count == 1
        assert await manager.get_session(revoked.token) is not None, "a revocation that failed was not made"
        assert await manager.get_active_session_count() >= 2
        free(path)
        await manager.ping()
        assert await manager.delete_session(revoked.token) is True
        session = await manager.validate_session(kept.token)
        assert session is not None
        assert session.request_count == 2
    assert whole(path)


def fill_by_limit(path: Path) -> None:
    """Let no file of this process grow."""
    limit_files(log_of(path).stat().st_size)


def free_by_limit(_: Path) -> None:
    """Let files grow again."""
    free_files()


def fill_by_file(path: Path) -> None:
    """Take all the space there is."""
    with suppress(OSError), path.with_name("filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


def free_by_file(path: Path) -> None:
    """Give it back."""
    path.with_name("filler").unlink()


def test_a_full_disk_fails_loudly_and_recovers(tmp_path: Path) -> None:
    """F-46, I-1, I-13: writes and revocations fail as `StoreUnavailable`, reads go on, the ping says so."""
    in_process(use_a_full_disk, tmp_path / "sessions.db", fill_by_limit, free_by_limit)
    disk = tmp_path / "disk"
    disk.mkdir()
    # A real file system without space as well, where this machine lets us have one.
    with small_disk(disk) as mounted:
        if mounted:
            in_process(use_a_full_disk, disk / "sessions.db", fill_by_file, free_by_file)


async def test_a_full_database_fails_loudly(tmp_path: Path) -> None:
    """F-46: the limit that SQLite itself sets to a file; one that does not fit fails, and what fits goes on."""
    path = tmp_path / "sessions.db"
    async with opened(path) as manager:
        kept = await manager.create_session("u1")
        store = manager.store
        assert isinstance(store, sqlite.SqliteStore)
        driver = store._writer._driver
        driver.execute("PRAGMA max_page_count = 1").fetchall()
        fillers = (manager.create_session("u2", {"filler": "x" * 10_000}) for _ in range(100))
        with pytest.raises(StoreUnavailable, match="the disk is full; free some space"):
            await asyncio.gather(*fillers)
        assert await manager.validate_session(kept.token) is not None
        driver.execute("PRAGMA max_page_count = 1000000").fetchall()
        await manager.create_session("u2", {"filler": "x" * 10_000})
        await manager.ping()


# Read-only


async def try_without_rights(path: Path) -> list[str]:
    """What a start says to a process that may not write there."""
    become_nobody()
    texts = []
    for upgrade in (None, False):
        try:
            async with opened(path, upgrade=upgrade) as manager:
                await manager.create_session()
        except HoldfastError as error:
            texts.append(f"{type(error).__name__}: {error}")
        else:
            texts.append("opened")
    return texts


@pytest.mark.parametrize("what", ["file", "directory", "both", "missing file", "missing directory", "closed directory"])
def test_a_place_without_rights_is_refused_at_the_start(what: str) -> None:
    """F-47: a read-only file or directory is a clear error at the start, with what to check."""
    folder = binaries.scratch() / f"read-only-{what.replace(' ', '-')}-{os.getpid()}"
    folder.mkdir()
    path = folder / "sessions.db"
    try:
        if "missing" not in what:
            asyncio.run(schema.upgrade(path))
            hand_to_nobody(path)
        hand_to_nobody(folder)
        if what in ("file", "both"):
            path.chmod(0o400)
        if what in ("directory", "both", "missing file"):
            folder.chmod(0o500)
        if what == "closed directory":
            folder.chmod(0o000)
        if what == "missing directory":
            folder.chmod(0o500)
            path = folder / "data" / "sessions.db"
        for text in in_process(try_without_rights, path):
            assert text.startswith(("StoreRefused", "StoreUnavailable")), text
            assert any(word in text for word in ("read-only", "permissions", "check the path", "only the owner")), text
            assert str(path) in text
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


# Damaged


def garbage(path: Path) -> None:
    """Not a database at all."""
    path.write_bytes(b"GIF89a" + bytes(range(256)) * 64)


def header(path: Path) -> None:
    """The first bytes are another's."""
    with path.open("r+b") as file:
        file.write(b"not a database any more")


def first_page(path: Path) -> None:
    """The list of tables is gone."""
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3900)


def other_pages(path: Path) -> None:
    """Everything but the list of tables is gone."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def half(path: Path) -> None:
    """Cut in the middle."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // 4096 * 4096)


def odd_size(path: Path) -> None:
    """Cut within the first page."""
    with path.open("r+b") as file:
        file.truncate(1000)


DAMAGES = [garbage, header, first_page, other_pages, half, odd_size]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
async def test_a_damaged_file_is_never_valid(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """F-48: a damaged file is refused at the start or at the first use, with what to do; nobody is let in or hangs."""
    path = tmp_path / "sessions.db"
    async with opened(path) as manager:
        tokens = [(await manager.create_session(f"u{number}", {"a": "x" * 500})).token for number in range(50)]
    damage(path)

    async def serve() -> None:
        async with opened(path) as manager:
            for token in tokens:
                assert await manager.validate_session(token) is None
            await manager.create_session("u1")

    with pytest.raises(StoreRefused, match=r"is damaged or not a SQLite database; restore a backup, or try .*recover"):
        await serve()


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    """F-48: an empty file is what a start makes itself: it opens nothing that was there before."""
    path = tmp_path / "sessions.db"
    async with opened(path) as manager:
        token = (await manager.create_session("u1")).token
    path.write_bytes(b"")
    async with opened(path) as manager:
        assert await manager.validate_session(token) is None
        await manager.create_session("u1")


@pytest.mark.parametrize("keep", [0, 10, 32, 4000, 0.5, 0.99])
async def test_a_truncated_log_loses_the_newest_and_nothing_else(keep: float, tmp_path: Path) -> None:
    """F-48: what is left of a cut -wal is whole transactions, the oldest first; what is lost is not half there."""
    path, copy = tmp_path / "sessions.db", tmp_path / "copy.db"
    async with opened(path) as manager:
        old = (await manager.create_session("old")).token
    async with opened(path) as manager:
        tokens = [(await manager.create_session("new", {"a": "x" * 500})).token for _ in range(20)]
        shutil.copy(path, copy)
        shutil.copy(log_of(path), log_of(copy))
    size = log_of(copy).stat().st_size
    os.truncate(log_of(copy), int(keep if keep >= 1 else keep * size))
    async with opened(copy) as manager:
        assert await manager.validate_session(old) is not None
        there = [await manager.validate_session(token) is not None for token in tokens]
        assert there == sorted(there, reverse=True)
        assert any(there) == (keep in (0.5, 0.99))
    assert whole(copy)


async def test_damage_while_it_is_open(tmp_path: Path) -> None:
    """F-48: a file cut short under a running server gives errors or `None`, and is not served as if it were whole."""
    path = tmp_path / "sessions.db"
    async with opened(path) as manager:
        for number in range(30):
            await manager.create_session(f"u{number}", {"a": "x" * 3000})
    async with opened(path) as manager:
        unknown = (await manager.create_session("u1")).token
        await manager.delete_session(unknown)
        other_pages(path)
        for call in (manager.list_sessions(), manager.get_active_session_count(), manager.create_session("u1")):
            with suppress(StoreUnavailable, StoreRefused):
                await call
        with suppress(StoreUnavailable, StoreRefused):
            assert await manager.validate_session(unknown) is None


# Taken away


def renamed(path: Path) -> None:
    """Moved to another name."""
    path.rename(path.with_name("elsewhere.db"))


def deleted(path: Path) -> None:
    """Gone."""
    path.unlink()


def replaced(path: Path) -> None:
    """Another file in its place."""
    other = path.with_name("other.db")
    shutil.copy(path, other)
    other.rename(path)


def log_deleted(path: Path) -> None:
    """The log is gone: SQLite would go on with the one that nobody can find."""
    log_of(path).unlink()


@pytest.mark.parametrize("take", [renamed, deleted, replaced, log_deleted], ids=lambda each: each.__name__)
async def test_a_file_that_is_taken_away_is_not_served(take: Callable[[Path], None], tmp_path: Path) -> None:
    """F-50, I-2: neither writes nor reads are answered from a file that others do not see; the text says what to do."""
    path = tmp_path / "sessions.db"
    async with opened(path) as manager:
        token = (await manager.create_session("u1")).token
        assert await manager.get_session(token) is not None
        take(path)
        for call in (
            lambda: manager.validate_session(token),
            lambda: manager.get_session(token),
            lambda: manager.delete_session(token),
            lambda: manager.create_session("u1"),
            manager.get_active_session_count,
            lambda: manager.why_ended(token),
            manager.ping,
        ):
            with pytest.raises(StoreRefused, match=r"replaced or deleted while it was open; stop all processes"):
                await call()
    if take is replaced:
        async with opened(path) as manager:
            assert await manager.get_active_session_count() >= 0


def names_in(folder: Path) -> list[str]:
    """The files of a folder."""
    return sorted(each.name for each in folder.iterdir())


async def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-50: a relative path goes on meaning the file that was opened."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with opened(Path("sessions.db")) as manager:
        token = (await manager.create_session("u1")).token
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert await manager.validate_session(token) is not None
        calls = (manager.get_session(token) for _ in range(20))
        assert None not in await asyncio.gather(*calls)
    assert names_in(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "name", ["with space.db", "100%25.db", "a%41.db", "a#b.db", "what?.db", "ümläut.db", "a:b@c.db", "'\".db"]
)
async def test_every_name_is_the_name_of_the_file(name: str, tmp_path: Path) -> None:
    """F-50, S-75: no library on the way decodes or cuts the name: the file prepared is the file used."""
    path = tmp_path / name
    async with SessionManager(path, sweep_interval=None) as manager:
        token = (await manager.create_session("u1")).token
        assert await manager.get_session(token) is not None
        assert await schema.check(path) is None
        names = names_in(tmp_path)
    assert names == sorted([name, f"{name}-lock", f"{name}-shm", f"{name}-wal"])
    assert value(path, "SELECT count(*) FROM sessions") == 1


# The library


@pytest.mark.parametrize(
    ("version", "affected"), [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 53, 0), False)]
)
def test_the_wal_reset_race_is_warned_about(
    version: tuple[int, ...], affected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """F-51: a warning at the start for a library with the race, and a refusal when the operator is strict."""
    refuse_library(version, strict=False)
    assert ("WAL-reset race" in caplog.text) is affected
    if affected:
        with pytest.raises(StoreRefused, match=r"WAL-reset race .* use SQLite 3\.51\.3 or newer"):
            refuse_library(version, strict=True)
    else:
        refuse_library(version, strict=True)


def test_a_library_too_old_is_refused() -> None:
    """F-51: RETURNING came with 3.35."""
    with pytest.raises(StoreRefused, match=r"3\.34\.1 is too old: Holdfast needs 3\.35\.0"):
        refuse_library((3, 34, 1), strict=False)


@pytest.mark.parametrize("strict", [False, True])
async def test_the_start_looks_at_the_library(
    strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F-51: it does so before it touches a file."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 50, 0))
    caplog.set_level(logging.WARNING)
    path = tmp_path / "sessions.db"
    if strict:
        with pytest.raises(StoreRefused, match="WAL-reset"):
            await opened(path, strict_sqlite=True).open()
        assert names_in(tmp_path) == []
        return
    async with opened(path):
        assert "WAL-reset" in caplog.text


# Cancelled


async def test_a_cancelled_caller_leaves_no_lock(tmp_path: Path) -> None:
    """F-54, I-12: callers cancelled at every point; the others get their answers, and the file is free."""
    path = tmp_path / "sessions.db"
    async with opened(path, deadline=20) as manager:
        tokens = [(await manager.create_session("u1")).token for _ in range(4)]
        acknowledged = cancelled = 0
        for turns in range(40):
            calls = [asyncio.ensure_future(manager.validate_session(token)) for token in tokens * 5]
            calls.append(asyncio.ensure_future(manager.get_session(tokens[0])))
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert not [each for each in outcomes if isinstance(each, Exception)]
            cancelled += sum(isinstance(each, asyncio.CancelledError) for each in outcomes)
            acknowledged += sum(not isinstance(each, BaseException) for each in outcomes[:-1])
        await manager.ping()
        with plain(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        assert cancelled > 100
        assert acknowledged <= value(path, "SELECT sum(request_count) FROM sessions") <= acknowledged + cancelled
        await manager.create_session("u1")


async def test_a_start_that_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    """F-54: cancelled at any moment, a start may be repeated at once."""
    path = tmp_path / "sessions.db"
    for turns in range(0, 60, 3):
        manager = opened(path)
        opening = asyncio.ensure_future(manager.open())
        for _ in range(turns):
            # Cancelled at every moment of a start: what it does in threads passes by time, not by turns.
            await asyncio.sleep(0.001 if turns > 30 else 0)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        await manager.close()
    async with opened(path) as manager:
        await manager.create_session("u1")
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("holdfast-")]
