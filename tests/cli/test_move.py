"""`holdfast move`, driven as a program on a SQLite file and a real PostgreSQL, while an application writes."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from holdfast import SessionManager, StoreUnavailable, TwoStores
from holdfast.sql import schema
from tests.cli.command import COMMAND, environment, run_program
from tests.cli.moving import Program
from tests.conftest import MigratedDatabases
from tests.docs.pages import page
from tests.support.polling import eventually

STATUS = {
    "move", "phase", "authority", "waiting", "epoch", "copied", "rows", "lag", "lag_is_bound", "verified_at",
    "quarantined", "quarantined_live", "away",
}  # fmt: skip
RESULT = {
    "command", "dry_run", "did_something", "backups", "writes_waited_ms", "steps_ms", "held_back_seconds", "status",
}  # fmt: skip


class Writer:
    """An application that serves on while its sessions are moved, and remembers what it was told."""

    def __init__(self, manager: SessionManager) -> None:
        self.manager = manager
        self.counts: dict[str, int] = {}
        self.unsure: set[str] = set()

    async def work(self) -> None:
        """Create sessions and validate them, until cancelled."""
        while True:
            # The pace of an application.
            await asyncio.sleep(0.02)
            try:
                new = await self.manager.create_session("u1")
                self.counts[new.token] = 0
                for token in list(self.counts)[-3:]:
                    session = await self.manager.validate_session(token)
                    assert session is not None, "somebody was logged out"
                    self.counts[token] += 1
            except StoreUnavailable as error:
                raise AssertionError("a call failed while the store was moved") from error

    async def check(self) -> None:
        """Every session that was acknowledged is there, with every request."""
        for token, count in self.counts.items():
            session = await self.manager.get_session(token)
            assert session is not None
            # One more is the call that was under way when the writer was stopped.
            assert count <= session.request_count <= count + 1


@pytest_asyncio.fixture
async def move(tmp_path: Path, migrated_database: MigratedDatabases) -> Program:
    """The program on a file with some sessions and an empty database."""
    path = tmp_path / "sessions.db"
    await schema.upgrade(path)
    async with SessionManager(path, sweep_interval=None) as manager:
        for number in range(30):
            await manager.create_session(f"u{number}", {"n": number})
    return Program(tmp_path, path, migrated_database(None))


@asynccontextmanager
async def writing(move: Program) -> AsyncIterator[Writer]:
    """An application at work beside."""
    stores = TwoStores(move.path, move.address, preferred="sqlite")
    async with SessionManager(stores, sweep_interval=None) as manager:
        writer = Writer(manager)
        task = asyncio.create_task(writer.work())
        try:
            yield writer
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait((task,))
        await writer.check()


async def test_there_and_back_and_there_for_good(move: Program) -> None:
    """CLI: a whole move by the commands, each given twice, loses nothing, logs nobody out and fails no call."""
    async with writing(move) as writer:
        assert (await move.json("plan"))["ready"]
        first, again = await move.json("start"), await move.json("start")
        assert (first["did_something"], len(first["backups"]), again["backups"]) == (True, 1, [])
        assert set(first) == RESULT
        assert set(first["status"]) == STATUS
        assert first["status"]["phase"] == "following"
        for _ in range(2):
            verified = await move.json("verify")
            assert verified["rows"] > 30
            assert verified["differing"] == {}
            assert verified["status"]["verified_at"] is not None
        for way in range(2):
            switched, again = await move.json("cutover"), await move.json("cutover")
            assert (switched["did_something"], again["did_something"]) == (True, False)
            assert switched["writes_waited_ms"] > 0
            assert set(switched["steps_ms"]) >= {"flip", "decide", "open"}
            assert (again["status"]["authority"], again["backups"]) == ("postgresql", [])
            known = len(writer.counts)
            await move("verify")
            if way == 0:
                back, again = await move.json("rollback"), await move.json("rollback")
                assert (back["did_something"], again["did_something"]) == (True, False)
                assert (back["status"]["authority"], back["status"]["phase"]) == ("sqlite", "following")
                assert len(back["backups"]) == 1
            assert len(writer.counts) > known
        await move("complete", "--yes")
        assert "the move is over" in move.said
        await move("complete", "--yes")
        assert (await move.status())["phase"] is None
    for backup in (move.folder / "backups").iterdir():
        assert backup.stat().st_mode & 0o777 == 0o700
    assert await move.in_postgresql("SELECT FROM pg_tables WHERE tablename LIKE 'holdfast_move%'") == []


async def test_a_move_that_is_aborted_leaves_nothing(move: Program) -> None:
    """CLI: an aborted move leaves SQLite as it was and PostgreSQL empty; a new one can be started."""
    before = move.in_sqlite("SELECT * FROM sessions ORDER BY id")
    await move("start", "--no-backup")
    assert "no backup is taken" in move.said
    for _ in range(2):
        await move("abort", "--yes")
    assert "no move is under way" in move.said
    assert move.in_sqlite("SELECT * FROM sessions ORDER BY id") == before
    assert await move.in_postgresql("SELECT FROM sessions") == []
    assert not (move.folder / "backups").exists()
    assert (await move.json("start"))["status"]["copied"] == 30


async def test_a_dry_run_changes_nothing(move: Program) -> None:
    """CLI: with --dry-run every command says its steps, numbered, and both stores stay as they are."""
    for setting, commands in (
        ((), ("start",)),
        (("start", "--no-backup"), ("start", "verify", "cutover", "rollback", "abort")),
        (("cutover", "--no-backup"), ("verify", "cutover", "rollback", "complete")),
    ):
        if setting:
            await move(*setting)
        before = await move.everything()
        for command in commands:
            steps = (await move.json(command, "--dry-run"))["steps"]
            if command == "cutover":
                said = await move(command, "--dry-run")
                assert said == "".join(f"{number}. {step}\n" for number, step in enumerate(steps, 1))
        assert await move.everything() == before


async def test_what_is_refused_says_why_and_what_to_do(move: Program) -> None:
    """CLI: what a move does not allow at this moment ends with 4, and the remedy is in the message."""
    for command, remedy in (
        (("verify",), "holdfast move start"),
        (("cutover",), "holdfast move start"),
        (("rollback",), "holdfast move start"),
        (("complete", "--yes"), "holdfast move start"),
    ):
        assert await move(*command, code=4) == ""
        assert remedy in move.said
    await move("start", "--no-backup")
    await move("complete", "--yes", code=4)
    assert "cut over before you complete it" in move.said
    await move("cutover", "--no-backup", "--budget", "1", code=4)
    assert "no decision within 1 ms" in move.said
    assert "SQLite serves on" in move.said
    await move("cutover", "--no-backup")
    await move("abort", "--yes", code=4)
    assert "roll back before you abort it" in move.said
    await move("complete", code=2)
    assert "--yes" in move.said
    await move("complete", "--yes")
    for over in ("start", "cutover", "rollback", "abort"):
        await move(over, code=4)
        assert "PostgreSQL holds" in move.said


@pytest.mark.parametrize("serves", ["sqlite", "postgresql"])
async def test_a_difference_is_found_and_mended(move: Program, serves: str) -> None:
    """CLI: a row that somebody changed behind the move's back ends verify with 3 and stops what comes next; --mend
    takes it from the store that serves.
    """
    await move("start", "--no-backup")
    if serves == "sqlite":
        await move.in_postgresql("ALTER TABLE sessions DISABLE TRIGGER ALL")
        [changed] = await move.in_postgresql("UPDATE sessions SET request_count = 7 WHERE user_id = 'u3' RETURNING id")
        session, following, undone = str(changed["id"]), "cutover", "SQLite serves on"
    else:
        await move("cutover", "--no-backup")
        move.in_sqlite("UPDATE holdfast_move SET applying = 1")
        [(deleted,)] = move.in_sqlite("DELETE FROM sessions WHERE user_id = 'u3' RETURNING id")
        move.in_sqlite("UPDATE holdfast_move SET applying = 0")
        session, following, undone = str(UUID(hex=deleted)), "rollback", "PostgreSQL serves on"
    found = await move.json("verify", code=3)
    assert (found["differing"], found["named"]) == ({"sessions": 1}, [f"session {session}"])
    await move(following, "--no-backup", code=3)
    assert undone in move.said
    assert (await move.status())["authority"] == serves
    mended = await move.json("verify", "--mend")
    assert (mended["differing"], mended["mended"]) == ({}, 1)
    assert (await move.json("verify", "--mend"))["mended"] == 0
    if serves == "postgresql":
        await move(following, "--no-backup")
    assert move.in_sqlite("SELECT request_count FROM sessions WHERE user_id = 'u3'") == [(0,)]


async def test_a_follower_gives_way_and_stops_when_told(move: Program) -> None:
    """CLI: start --follow applies what is written, lets other commands in, and Ctrl-C ends it where one can go on."""
    variables = {"DATABASE_URL": move.address, "HOLDFAST_SQLITE_PATH": str(move.path)}
    follower = await asyncio.create_subprocess_exec(
        *(*COMMAND, "move", "start", "--follow", "--no-backup"),
        cwd=move.folder,
        env=environment(**variables),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert follower.stderr is not None
    try:
        async with asyncio.timeout(110):
            while b"Ctrl-C stops it" not in await follower.stderr.readline():
                pass

            async def caught_up(rows: int) -> bool:
                status = await move.status()
                return bool(status["lag"] == 0 and status["copied"] == status["rows"] == rows)

            stores = TwoStores(move.path, move.address, preferred="sqlite")
            async with SessionManager(stores, sweep_interval=None) as manager:
                for rows, command in ((31, "cutover"), (32, "rollback")):
                    await manager.create_session("u1")
                    await eventually(partial(caught_up, rows), what="what was written is applied")
                    # That the manager has not noted both stores yet is no matter here.
                    await move(command, "--no-backup", "--ignore-processes")
            follower.send_signal(signal.SIGINT)
            _, said = await follower.communicate()
    finally:
        if follower.returncode is None:
            follower.kill()
            await follower.communicate()
    assert follower.returncode == 1
    assert "the same command goes on from here" in said.decode()
    assert "Traceback" not in said.decode()


async def test_plan_finds_what_stands_in_the_way(move: Program, tmp_path: Path) -> None:
    """CLI: plan counts rows by class, and lists what would be refused; exit code 4 when anything would."""
    planned = await move.json("plan")
    assert planned["rows"]["sessions"] == 30
    classes = planned["classes"]
    assert classes["exact"] + classes["repaired"] + classes["quarantined"] == classes["rows"] == 30
    assert planned["seconds"] >= 0
    assert planned["refusals"] == []
    shown = await move("plan")
    assert "30 exact, 0 repaired, 0 quarantined" in shown
    assert "holdfast move start" in move.said
    move.in_sqlite("UPDATE sessions SET metadata = 'no json' WHERE user_id = 'u4'")
    damaged = await move.json("plan", code=4)
    assert "1 rows are damaged (sessions: session" in damaged["refusals"][0]["what"]
    assert damaged["classes"]["exact"] == 29
    async with SessionManager(move.address, sweep_interval=None) as manager:
        await manager.create_session("u1")
    both = await move.json("plan", code=4)
    assert both["refusals"][-1]["what"] == "PostgreSQL has 1 sessions of its own"
    missing = await move.json("plan", "--sqlite", str(tmp_path / "no.db"), code=4)
    assert "no file" in missing["refusals"][0]["what"]
    nowhere = "postgresql://nobody:hunter2@127.0.0.1:1/app"
    away = await move.json("plan", "--postgres", nowhere, code=4)
    assert "hunter2" not in json.dumps(away)
    assert len(away["refusals"]) == 2
    assert (await move.json("status", "--postgres", nowhere, code=4))["away"] == ["postgresql"]


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (("status",), {"DATABASE_URL": ""}),
        (("status",), {"DATABASE_URL": "sqlite:///x.db", "HOLDFAST_SQLITE_PATH": ""}),
        (("cutover", "--budget", "0"), {}),
        (("status", "--watch", "--json"), {}),
    ],
)
async def test_mistakes_in_the_arguments(move: Program, arguments: tuple[str, ...], changes: dict[str, str]) -> None:
    """CLI: what cannot be meant ends with 2."""
    await move(*arguments, code=2, **changes)


async def test_the_installed_program_says_where_a_move_stands(move: Program) -> None:
    """CLI: the program itself, started as operators do, with the stores as options."""
    await move("start", "--no-backup")
    ran = await asyncio.to_thread(
        run_program,
        *("move", "status", "--sqlite", str(move.path), "--postgres", move.address),
        folder=move.folder,
    )
    assert ran.returncode == 0
    assert "following" in ran.stdout
    assert "next" in ran.stdout


async def test_a_process_that_cannot_follow_stops_the_cut_over(move: Program) -> None:
    """CLI: a process that knows only one of the stores is named, and the cut-over refused unless it is ignored."""
    await move("start", "--no-backup")
    async with SessionManager(move.path, sweep_interval=None) as manager:
        await manager.create_session("u1")

        async def noted() -> bool:
            return bool(move.in_sqlite("SELECT 1 FROM holdfast_processes"))

        await eventually(noted, what="this process is noted in the file")
        planned = await move.json("plan")
        assert [each["configured"] for each in planned["processes"]] == [False]
        assert "knows only the SQLite file" in planned["notices"][-1]["what"] + planned["notices"][0]["what"]
        await move("cutover", "--no-backup", code=4)
        assert "knows only the SQLite file" in move.said
        assert "--ignore-processes" in move.said
        for _ in range(2):
            await move("cutover", "--no-backup", "--ignore-processes")
        await move("cutover")
        await move("rollback", "--no-backup", code=4)
        await move("rollback", "--no-backup", "--ignore-processes")


def test_the_pages_name_options_that_there_are() -> None:
    """Docs: every command and option of a move that the pages name is one."""
    sections = page("reference/cli.md").read_text(encoding="utf-8").split("\n## ")
    there = {text.partition("\n")[0]: text for text in sections if text.startswith("holdfast move ")}
    assert len(there) == 9
    options = set(re.findall(r"`(--[a-z-]+)`", "".join(there.values())))
    for name in ("how-to/move-a-store.md", "how-to/move-a-chat-application.md", "explanation/live-move.md"):
        text = page(name).read_text(encoding="utf-8")
        assert set(re.findall(r"holdfast move [a-z]+", text)) <= set(there)
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options | {"--postgres"}


async def test_a_killed_command_is_given_again(move: Program) -> None:
    """CLI: a command that is killed while it copies is resumed by the same command, whoever gives it."""
    async with SessionManager(move.path, sweep_interval=None) as manager:
        await asyncio.gather(*(manager.create_session("u1") for _ in range(1500)))
    variables = {"DATABASE_URL": move.address, "HOLDFAST_SQLITE_PATH": str(move.path)}
    killed = await asyncio.create_subprocess_exec(
        *(*COMMAND, "move", "start", "--no-backup"),
        cwd=move.folder,
        env=environment(**variables),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert killed.stderr is not None
    async with asyncio.timeout(110):
        while b"copying" not in await killed.stderr.readline():
            pass
        killed.kill()
        await killed.communicate()
    done = await move.json("start", "--no-backup")
    assert (done["status"]["phase"], done["status"]["copied"]) == ("following", 1530)
    assert (await move.json("verify"))["rows"] == 1530
