"""Processes note in each store that they use it: who could not follow a move is known before it is made."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path

import pytest

from holdfast import AuthorityMoved, SessionManager, StoreOptions, TwoStores
from holdfast.move.obstacles import obstacles
from holdfast.move.processes import ProcessSeen, processes_seen
from holdfast.move.state import MoveRefused
from tests.cli.moving import Program
from tests.legacy.old_application import legacy_file
from tests.move.bench import Place
from tests.sockets.server import running
from tests.support.polling import eventually


async def seen(place: Place) -> list[ProcessSeen]:
    """The processes that count now."""
    return await processes_seen(place.path, place.address)


async def _some(found: Awaitable[list[ProcessSeen]]) -> bool:
    return bool(await found)


async def test_a_process_on_both_stores_can_follow(place: Place, tmp_path: Path) -> None:
    """Registry: one on both is seen in both; one that knows one is an obstacle until it ends; killed, it lapses."""
    assert await seen(place) == []
    two = TwoStores(place.path, place.address, preferred="sqlite")
    async with SessionManager(two, sweep_interval=None):

        async def both() -> bool:
            found = await seen(place)
            return len(found) == 1 and found[0].can_follow

        await eventually(both, what="this process is seen in both stores")
        (mine,) = await seen(place)
        assert (mine.host, mine.pid, mine.stores) == (socket.gethostname(), os.getpid(), ("sqlite", "postgresql"))
        assert mine.obstacle is None
        async with running(tmp_path, "server", {"HOLDFAST_SQLITE_PATH": str(place.path)}) as server:

            async def other() -> list[ProcessSeen]:
                return [each for each in await seen(place) if each.pid != os.getpid()]

            await eventually(lambda: _some(other()), what="the server is seen")
            (single,) = await other()
            assert (single.stores, single.can_follow) == (("sqlite",), False)
            assert single.obstacle is not None
            assert f"process {single.pid}" in single.obstacle
            assert "HOLDFAST_SQLITE_PATH and DATABASE_URL" in single.obstacle
            server.process.kill()
            server.process.wait()
            assert await other() == [single]
            place.in_sqlite("UPDATE holdfast_processes SET seen_at = seen_at - 36000000 WHERE NOT follows")
            assert await other() == []
        assert (await seen(place))[0].can_follow
    assert await seen(place) == []
    assert place.in_sqlite("SELECT count(*) FROM holdfast_processes WHERE follows") == [(0,)]


async def test_the_store_without_authority_is_noted_in_too(place: Place) -> None:
    """Registry: after a cut-over a process still notes itself in the file that takes no writes."""
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
    two = TwoStores(place.path, place.address)
    async with SessionManager(two, sweep_interval=None):

        async def both() -> bool:
            return [each.stores for each in await seen(place)] == [("sqlite", "postgresql")]

        await eventually(both, what="this process is seen in both stores")


async def test_a_process_that_does_not_reach_the_other_store_is_an_obstacle(place: Place) -> None:
    """Registry: it is not enough to be told of both stores."""
    two = TwoStores(place.path, "postgresql://nobody@127.0.0.1:9/nothing", preferred="sqlite")
    async with SessionManager(two, sweep_interval=None):
        await eventually(lambda: _some(seen(place)), what="this process is seen")
        (mine,) = await seen(place)
    assert (mine.configured, mine.can_follow) == (True, False)
    assert mine.obstacle is not None
    assert "does not reach PostgreSQL" in mine.obstacle


async def test_a_process_on_postgresql_alone_is_in_the_way_of_a_roll_back_only(place: Place, tmp_path: Path) -> None:
    """Registry: one that was open before the move serves from the cut-over on; the roll-back names it and refuses."""
    tokens = await place.fill(3)
    move = Program(tmp_path, place.path, place.address)
    async with SessionManager(place.address, sweep_interval=None) as manager:
        await eventually(lambda: _some(seen(place)), what="this process is seen")
        await move("start", "--no-backup")
        with pytest.raises(AuthorityMoved):
            await manager.create_session("u1")
        assert "serves from the cut-over on" in (await move.json("status"))["obstacles"][0]
        await move("cutover", "--no-backup")
        assert f"process {os.getpid()}" in move.said
        assert "before a roll-back" in move.said
        assert await manager.validate_session(tokens[0]) is not None
        assert await manager.create_session("u1")
        await move("rollback", "--no-backup", code=4)
        assert f"process {os.getpid()}" in move.said
        assert "knows only PostgreSQL; name both stores to it" in move.said
        assert (await move.status())["authority"] == "postgresql"
    await move("rollback", "--no-backup")


async def test_a_process_that_may_not_know_old_tokens_stops_the_cut_over(place: Place) -> None:
    """Registry: whether there are tokens of another form a store looks for when it is opened: it may be too early."""
    await place.fill(1)
    place.in_sqlite("UPDATE sessions SET clear_token = 1")
    async with SessionManager(place.address, sweep_interval=None):
        await eventually(lambda: _some(seen(place)), what="this process is seen")
        found = await obstacles("postgresql", place.path, place.address, StoreOptions())
    assert found.notes == []
    assert "start it again" in found.refusals[0]


async def test_old_notes_are_dropped(place: Place) -> None:
    """Registry: what killed processes left behind does not pile up."""
    place.in_sqlite("INSERT INTO holdfast_processes VALUES ('0123456789abcdef0123456789abcdef', 'h', 1, 1, 0)")
    async with SessionManager(place.path, sweep_interval=None, options=StoreOptions()):
        await eventually(
            lambda: place.in_sqlite("SELECT count(*) FROM holdfast_processes WHERE pid = 1") == [(0,)],
            what="the old note is gone",
        )


async def test_a_legacy_file_has_no_notes(place: Place, tmp_path: Path) -> None:
    """Registry: an application's own file is looked at and left as it is."""
    path = legacy_file(tmp_path / "legacy.db")
    before = path.read_bytes()
    assert await processes_seen(path, place.address) == []
    assert path.read_bytes() == before


def test_a_command_is_over_before_it_is_noted(place: Place) -> None:
    """Registry: what opens a store for a moment writes nothing into it."""
    program = (
        "import asyncio, sys\nfrom holdfast import SessionManager\n"
        "async def main():\n    async with SessionManager(sys.argv[1], sweep_interval=None) as sessions:\n"
        "        await sessions.get_active_session_count()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(place.path)], check=True, timeout=60)
    with closing(sqlite3.connect(place.path)) as connection:
        assert connection.execute("SELECT count(*) FROM holdfast_processes").fetchone() == (0,)


@pytest.mark.parametrize("addresses", [("postgresql://x@y/z", "x.db"), ("x.db", "y.db")])
async def test_only_the_stores_of_a_move_are_asked(addresses: tuple[str, str]) -> None:
    """Registry: other pairs of addresses are refused."""
    with pytest.raises(MoveRefused, match="in this order"):
        await processes_seen(*addresses)
