"""Several processes of Holdfast and several of the old application on one file, all writing."""

import asyncio
import json
import random
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions
from tests.legacy import old_application
from tests.legacy.old_application import OldSessionManager, legacy_file

SECONDS = 3.0
ROOT = Path(__file__).parents[2]
OLD = [old_application.__file__]
NEW = ["-m", "tests.legacy.new_application"]


async def start(program: list[str], path: Path, shared: list[str], seed: int) -> asyncio.subprocess.Process:
    """A process of either application, ready to write."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, str(path), ",".join(shared), str(SECONDS), str(seed)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def result(process: asyncio.subprocess.Process) -> Any:
    """What it did."""
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_all_write_one_file_at_once(tmp_path: Path, berlin: str, journal_mode: str) -> None:
    """No count is lost, every token is good in both, and nobody hears that the database is locked.

    Three processes of Holdfast, one of them with two managers, and three of the old application.
    """
    path = legacy_file(tmp_path / "sessions.db", journal_mode)
    old = OldSessionManager(path)
    shared = [old.create_session(f"u{n}") for n in range(5)]
    async with SessionManager(path, sweep_interval=0.5) as here, SessionManager(path, sweep_interval=None) as there:
        servers = (here, there)
        shared += [(await here.create_session("u5")).token, (await there.create_session("u6")).token]
        counted = dict.fromkeys(shared, 0)
        made: list[str] = []
        processes = [await start(NEW, path, shared, seed) for seed in range(2)]
        processes += [await start(OLD, path, shared, seed) for seed in range(2, 5)]
        running = asyncio.create_task(asyncio.wait([asyncio.create_task(result(each)) for each in processes]))

        async def caller(number: int) -> None:
            chance, server = random.Random(number), servers[number % 2]
            while not running.done():
                if chance.random() < 0.1:
                    made.append((await server.create_session(f"new-{number}")).token)
                token = chance.choice(shared)
                assert await server.validate_session(token)
                counted[token] += 1

        await asyncio.gather(*(caller(number) for number in range(10)))
        done, _ = await running
        outcomes = [task.result() for task in done]

        # Neither that the database is locked, nor that a deadline has passed.
        assert [outcome["errors"] for outcome in outcomes] == [[]] * 5
        assert max(outcome["longest"] for outcome in outcomes) < StoreOptions().deadline
        for token in shared:
            acknowledged = counted[token] + sum(outcome["counted"][token] for outcome in outcomes)
            for server in servers:
                session = await server.get_session(token)
                assert session is not None
                assert session.request_count == acknowledged
            row = old.get_session(token)
            assert row is not None
            assert row[6] == acknowledged
        # All of them got on with it, however many were in each other's way.
        assert min(sum(counted.values()), *(sum(outcome["counted"].values()) for outcome in outcomes)) > 0
        for token in made:
            assert old.validate_session(token)
        living = [token for outcome in outcomes for token in outcome["made"]]
        for token in living:
            assert await there.validate_session(token)
        for token in (token for outcome in outcomes for token in outcome["ended"]):
            assert await here.validate_session(token) is None
            assert await here.why_ended(token) in ("revoked", "unknown")
        live = len(shared) + len(made) + len(living)
        assert await here.get_active_session_count() == old.get_active_session_count() == live
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (journal_mode,)
