"""PostgreSQL's disk is full while a move is under way: a small file system of its own, filled to the last byte."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from holdfast import StoreUnavailable
from holdfast.sql import schema
from tests.faults.sqlite_bench import small_disk
from tests.move.bench import Place
from tests.move.crowd import crowd
from tests.move.ledger import Ledger
from tests.support import binaries
from tests.support.polling import eventually
from tests.support.postgres import PostgresCluster

FULL = "PostgreSQL did not take the write: its disk is full; free some space"
BUDGET = timedelta(seconds=5)


@dataclass(frozen=True)
class Disk:
    """The file system that all tables of the database are on; the server's log of transactions is elsewhere."""

    folder: Path

    def fill(self) -> None:
        """Take all the space there is."""
        with suppress(OSError), (self.folder / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)

    def free(self) -> None:
        """Give it back."""
        (self.folder / "filler").unlink()


@pytest.fixture
def mounted() -> Iterator[Callable[[str], Disk]]:
    """`mounted(size)` is a file system of that size, where this process may mount one."""
    with ExitStack() as stack:

        def mount(size: str) -> Disk:
            folder = binaries.scratch() / f"disk-{secrets.token_hex(6)}"
            folder.mkdir()
            if not stack.enter_context(small_disk(folder, size)):
                pytest.skip("only who may mount a file system can fill one")
            binaries.hand_over(folder)
            return Disk(folder)

        yield mount


@pytest_asyncio.fixture
async def small(
    tmp_path: Path, mounted: Callable[[str], Disk], broken_postgres: Callable[..., PostgresCluster]
) -> AsyncIterator[tuple[Place, Disk]]:
    """A file, and a database whose disk is small."""
    disk = mounted("32m")
    # Nobody gives space back behind the test's back.
    server = await asyncio.to_thread(broken_postgres, settings={"autovacuum": "off"})
    server.execute(
        f"CREATE TABLESPACE small LOCATION '{disk.folder}'",
        "CREATE DATABASE moved TABLESPACE small TEMPLATE template0",
    )
    await schema.upgrade(server.address("moved"))
    await schema.upgrade(tmp_path / "sessions.db")
    yield Place(tmp_path / "sessions.db", server.address("moved")), disk
    # It keeps the file system busy.
    await asyncio.to_thread(server.kill)


def grow(place: Place) -> None:
    """Let every session say more than any free page in PostgreSQL has room for, and what nothing compresses."""
    for (id,) in place.in_sqlite("SELECT id FROM sessions WHERE ended_at IS NULL AND user_id IS NULL"):
        said = '{"a":"' + os.urandom(60_000).hex() + '"}'
        place.in_sqlite("UPDATE sessions SET metadata = ? WHERE id = ?", said, id)


def serves(place: Place) -> bool:
    """Whether the file takes writes."""
    return place.in_sqlite("SELECT authority FROM holdfast_control") == [("here",)]


async def more(ledger: Ledger, count: int = 10) -> None:
    """Wait for so many more acknowledged writes."""
    before = ledger.acknowledged.total()
    await eventually(lambda: ledger.acknowledged.total() > before + count, what="writes are acknowledged")


class Filling:
    """A hook that fills the disk at one step, once."""

    def __init__(self, place: Place, disk: Disk) -> None:
        self._place = place
        self._disk = disk
        self._at = ""

    def arm(self, at: str) -> None:
        """Fill it when this step is reached next."""
        self._at = at

    @property
    def done(self) -> bool:
        """Whether it was reached."""
        return not self._at

    def __call__(self, step: str) -> None:
        if step == self._at:
            self._at = ""
            if serves(self._place):
                grow(self._place)
            self._disk.fill()


async def test_a_full_disk_of_postgresql_stops_the_move_and_nobody_else(small: tuple[Place, Disk]) -> None:
    """Move 8: the mover says whose disk it is, SQLite serves on at once; with space again the same command goes on."""
    place, disk = small
    await place.fill(40)
    filling = Filling(place, disk)
    async with crowd(place, processes=1, callers=2) as ledger:
        for at, goal in (("", "start"), ("copy", "start"), ("apply", "run"), ("cut done", "cut_over")):
            async with place.mover(reached=filling, patience=0.5) as mover:
                filling.arm(at)
                filling("")
                if goal == "run":
                    grow(place)
                with pytest.raises(StoreUnavailable, match=FULL):
                    await getattr(mover, goal)()
            assert filling.done
            assert serves(place)
            await more(ledger)
            disk.free()
            if goal == "run":
                # Now that there is space, it gets as far as to the next.
                async with place.mover() as mover:
                    await mover.run()
        async with place.mover() as mover:
            await mover.cut_over(BUDGET)
            await more(ledger)
    await ledger.check(place, "postgresql")


async def test_a_full_disk_of_postgresql_bars_no_way_back(small: tuple[Place, Disk]) -> None:
    """Move 8: after a cut-over PostgreSQL refuses what does not fit, and all goes back to SQLite all the same."""
    place, disk = small
    await place.fill(40)
    async with (
        crowd(place, processes=1, callers=2) as ledger,
        place.manager("postgresql") as manager,
        place.mover() as mover,
    ):
        await mover.start()
        await mover.cut_over(BUDGET)
        await more(ledger)
        disk.fill()

        async def write() -> None:
            for _ in range(2000):
                await manager.create_session("u-full", {"a": os.urandom(7000).hex()})

        with pytest.raises(StoreUnavailable, match="its disk is full"):
            await write()
        # It is back by then, and what SQLite takes now has no place in PostgreSQL.
        with suppress(StoreUnavailable):
            await mover.roll_back()
        assert serves(place)
        await more(ledger)
        disk.free()
        assert (await mover.verify()).clean
    await ledger.check(place, "sqlite")


async def test_a_disk_that_fills_up_at_a_decision_loses_nothing(small: tuple[Place, Disk]) -> None:
    """Move 8: whatever PostgreSQL can still write then, one store serves in the end, with all that was acknowledged."""
    place, disk = small
    await place.fill(40)
    filling = Filling(place, disk)
    async with place.mover() as mover:
        await mover.start()
    async with crowd(place, processes=1, callers=2) as ledger:
        for at in ("settle done", "decide done", "fence done"):
            async with place.mover(reached=filling, patience=0.5) as mover:
                filling.arm(at)
                with suppress(StoreUnavailable):
                    await mover.cut_over(BUDGET)
                    await mover.roll_back()
            assert filling.done
            disk.free()
            await more(ledger)
            async with place.mover() as mover:
                await mover.run()
                await mover.cut_over(BUDGET)
                await more(ledger)
                await mover.roll_back()
    await ledger.check(place, "sqlite")


async def test_a_server_that_its_full_disk_stops_costs_the_move_nothing(
    tmp_path: Path, mounted: Callable[[str], Disk]
) -> None:
    """Move 8: without space for its log of transactions PostgreSQL ends itself; with space it is there again."""
    disk = mounted("160m")
    server = PostgresCluster.create(18, disk.folder / "server", {"max_wal_size": "32MB", "autovacuum": "off"})
    try:
        server.start()
        server.create_database("moved")
        place = Place(tmp_path / "sessions.db", server.address("moved"))
        await schema.upgrade(place.address)
        await schema.upgrade(place.path)
        await place.fill(40)

        def fill(step: str) -> None:
            if step == "apply" and not (disk.folder / "filler").exists():
                disk.fill()
                # The parts of the log that are there already have to be used up as well, however many they are. That
                # alone may be an error as any other: the server ends when a commit does not get to the disk.
                for size in (1_000_000, 1):
                    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                        message = f"SELECT pg_logical_emit_message(true, 'full', repeat('x', {size}))"
                        server.execute(*[message] * 160)

        async with crowd(place, processes=1, callers=2) as ledger:
            async with place.mover(reached=fill, patience=1.0) as mover:
                with pytest.raises(StoreUnavailable):
                    await mover.start()
            await eventually(lambda: not server.running, what="the server has ended itself")
            assert "PANIC" in server.log.read_text()
            await more(ledger)
            disk.free()
            await asyncio.to_thread(server.start)
            async with place.mover() as mover:
                await mover.start()
                await mover.cut_over(BUDGET)
                await more(ledger)
        await ledger.check(place, "postgresql")
    finally:
        server.remove()
