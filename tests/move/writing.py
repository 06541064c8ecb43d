"""A process that writes sessions while they are moved, and keeps a journal: a line before each call, one after it.

    python -m tests.move.writing FILE ADDRESS JOURNAL SEED STOP

It follows the authority as every process of an application does, and ends once there is a file STOP.
"""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import TextIO

from holdfast import OutcomeUnknown, SessionManager, StoreUnavailable
from holdfast.move.following import FollowingStore
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.postgresql import PostgresqlStore
from holdfast.sql.sqlite import SqliteStore

DEADLINE = 20.0


def following(file: str, address: str, deadline: float = DEADLINE) -> FollowingStore:
    """A store over both."""
    left, entered = parse_address(file), parse_address(address)
    assert isinstance(left, SqliteAddress)
    assert isinstance(entered, PostgresqlAddress)
    options = StoreOptions(follows=True, deadline=deadline)
    halves = SqliteStore(left, options), PostgresqlStore(entered, options)
    return FollowingStore(*halves, preferred="sqlite", deadline=deadline)


class Journal:
    """What was asked, and what was acknowledged. The system keeps each line although the process be killed."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def note(self, what: str, id: str) -> None:
        """One line."""
        self._file.write(json.dumps([what, id]) + "\n")
        self._file.flush()


async def write(manager: SessionManager, journal: Journal, chance: random.Random, stop: Path) -> None:
    """Create, validate and end sessions until told to stop."""
    live: dict[str, str] = {}
    while not stop.exists():  # noqa: ASYNC240 - the process has nothing else to do
        # Others need the machine too.
        await asyncio.sleep(0.04)
        what = chance.choices(("create", "validate", "end"), (2, 6, 1))[0]
        if what == "create" or not live:
            try:
                new = await manager.create_session(f"u{chance.randrange(5)}", {"at": chance.random()})
            except StoreUnavailable:
                continue
            live[new.id] = new.token
            journal.note("created", new.id)
            continue
        id = chance.choice(list(live))
        journal.note(f"{what}?", id)
        try:
            if what == "validate":
                found = await manager.validate_session(live[id])
                journal.note("validated" if found is not None else "missing", id)
            else:
                ended = await manager.delete_session(live.pop(id))
                journal.note("ended" if ended else "missing", id)
        except OutcomeUnknown:
            journal.note(f"{what} unknown", id)
        except StoreUnavailable as error:
            journal.note(f"{what} refused: {type(error).__name__}", id)


async def main(file: str, address: str, journal: str, seed: str, stop: str) -> None:
    """Write with two callers."""
    with Path(journal).open("a") as lines:  # noqa: ASYNC230 - the process has nothing else to do
        async with SessionManager(following(file, address), sweep_interval=None) as manager:
            calls = [write(manager, Journal(lines), random.Random(f"{seed} {n}"), Path(stop)) for n in range(2)]
            await asyncio.gather(*calls)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
