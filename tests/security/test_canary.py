"""S-02, S-10: a token is nowhere but with its client: not in a file, a dump, a server's log, a message or a repr."""

import base64
import json
import logging
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from holdfast import HoldfastError, SessionManager, StoreOptions
from holdfast.sql import schema
from tests.support import binaries
from tests.support.polling import until
from tests.support.postgres import PostgresCluster


def spellings(token: str) -> list[bytes]:
    """Every form in which a token could turn up."""
    raw = token.encode()
    halves = raw[4:24], raw[24:47]
    forms = [
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        quote(token, safe="").encode(),
        quote("".join(f"%{byte:02X}" for byte in raw), safe="%").encode(),
        base64.b64encode(raw)[:40],
        raw[::-1],
        raw.decode().encode("utf-16-le"),
    ]
    return [*forms, *halves, *(half.hex().encode() for half in halves)]


def holds(content: bytes, tokens: list[str]) -> list[str]:
    """Which of the tokens are in there."""
    lowered = content.lower()
    return [token for token in tokens if any(form in content or form.lower() in lowered for form in spellings(token))]


async def whole_life(manager: SessionManager) -> list[str]:
    """Everything that can happen to a session; every token and ticket that was shown on the way."""
    new = await manager.create_session("u1", {"a": 1})
    other = await manager.create_session(None, {"b": "x" * 3000})
    shown = [new.token, other.token]
    await manager.validate_session(new.token)
    await manager.get_session(new.token)
    await manager.extend_session(new.token, 48)
    await manager.update_metadata(new.token, {"c": [1, None]})
    ticket = await manager.create_ticket(new.token, "https://example.org")
    kept = await manager.create_ticket(new.token)
    assert ticket is not None
    assert kept is not None
    await manager.redeem_ticket(ticket[0], "https://example.org")
    rotated = await manager.rotate_session(new.token)
    assert rotated is not None
    shown += [ticket[0], kept[0], rotated.token]
    await manager.why_ended(new.token)
    await manager.validate_session(rotated.token)
    await manager.list_sessions()
    await manager.delete_session(other.token)
    await manager.why_ended(other.token)
    await manager.sweep()
    return shown


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {each.name: each.read_bytes() for each in folder.iterdir()}


async def test_no_token_is_in_a_file_of_sqlite(tmp_path: Path) -> None:
    """S-02: not in the file, its log, its shared memory or its lock, in any spelling; the digest is."""
    path = tmp_path / "sessions.db"
    async with SessionManager(path, sweep_interval=None) as manager:
        shown = await whole_life(manager)
        while_open = contents(tmp_path)
    closed = {f"{name} closed": content for name, content in contents(tmp_path).items()}
    assert {
        name: holds(content, shown) for name, content in (while_open | closed).items() if holds(content, shown)
    } == {}
    assert {"sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db-lock"} <= set(while_open)
    digest = sha256(shown[-1].encode()).digest()
    assert digest in while_open["sessions.db-wal"]
    assert digest in closed["sessions.db closed"]


def dumped(address: str) -> bytes:
    """What `pg_dump` makes of a database."""
    parts = urlsplit(address)
    command: list[str | Path] = [
        *(binaries.programs(18) / "pg_dump", "-h", str(parts.hostname), "-p", str(parts.port)),
        *("-U", str(parts.username), parts.path[1:]),
    ]
    return binaries.run(command, extra={"PGPASSWORD": str(parts.password)}).encode()


async def test_no_token_is_in_a_dump_or_a_log_of_postgresql(broken_postgres: Callable[..., PostgresCluster]) -> None:
    """S-02: not in a dump, nor in the server's log with every statement and parameter, nor in its own tables."""
    server = broken_postgres(
        18,
        {
            "log_statement": "all",
            "log_min_duration_statement": "0",
            "log_parameter_max_length": "-1",
            "log_parameter_max_length_on_error": "-1",
            "log_error_verbosity": "verbose",
            "log_connections": "all",
        },
    )
    address = server.create_database("canary")
    await schema.upgrade(address)
    async with SessionManager(address, sweep_interval=None) as manager:
        shown = await whole_life(manager)
        connection = await asyncpg.connect(address)
        activity = str(await connection.fetch("SELECT * FROM pg_stat_activity")).encode()
        await connection.execute("SELECT 'the end of the log'")
        await connection.close()
    until(lambda: b"the end of the log" in server.log.read_bytes(), what="the log is written")
    log, dump = server.log.read_bytes(), dumped(address)
    digest = sha256(shown[-1].encode()).hexdigest().encode()
    assert digest in log, "parameters are logged at all"
    assert digest in dump
    assert [holds(content, shown) for content in (log, dump, activity)] == [[], [], []]


class Everything(logging.Handler):
    """Keeps all that a log record holds, not only what its format shows."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        trace = "" if not record.exc_info else "".join(traceback.format_exception(record.exc_info[1]))
        self.kept.append(f"{record.getMessage()} {record.__dict__!r} {trace}")


@pytest.fixture
def everything() -> Iterator[Everything]:
    """Every logger there is, SQLAlchemy's, Alembic's and the drivers' too, at DEBUG."""
    root, handler = logging.getLogger(), Everything()
    names = ["", "sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "alembic", "aiosqlite", "asyncpg", "asyncio"]
    names += [name for name in logging.root.manager.loggerDict if name.startswith("holdfast")]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def texts_of(error: BaseException) -> Iterator[str]:
    """All that can be shown of an error and of what led to it, with the variables of no frame."""
    seen: set[int] = set()
    current: BaseException | None = error
    yield "".join(traceback.format_exception(error))
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield f"{current} {current!r} {current.args!r} {getattr(current, '__notes__', '')}"
        current = current.__cause__ or current.__context__


async def fail_at_everything(manager: SessionManager, token: str, ticket: str) -> list[str]:
    """Every call with a token, on a store that fails; all the texts of the errors."""
    texts: list[str] = []
    calls: list[Callable[[], Any]] = [
        lambda: manager.validate_session(token),
        lambda: manager.get_session(token),
        lambda: manager.delete_session(token),
        lambda: manager.extend_session(token, 1),
        lambda: manager.rotate_session(token),
        lambda: manager.update_metadata(token, {"a": 1}),
        lambda: manager.why_ended(token),
        lambda: manager.create_ticket(token),
        lambda: manager.redeem_ticket(ticket),
        lambda: manager.create_session("u1"),
        lambda: manager.extend_session(token, float("nan")),
        lambda: manager.update_metadata(token, {"a": object()}),
    ]
    for call in calls:
        try:
            await call()
        except HoldfastError as error:
            texts += texts_of(error)
    return texts


async def test_no_token_is_in_a_text_about_sqlite(tmp_path: Path, everything: Everything) -> None:
    """S-10: a whole life, then a locked, a damaged and a missing file, at DEBUG: no record, error or repr holds it."""
    path = tmp_path / "sessions.db"
    async with SessionManager(path, sweep_interval=None) as manager:
        shown = await whole_life(manager)
        new = await manager.create_session("u1")
    # A short deadline for the calls that are to fail, and for those only.
    async with SessionManager(path, sweep_interval=None, options=StoreOptions(deadline=0.2)) as manager:
        shown.append(new.token)
        session = await manager.get_session(new.token)
        reprs = [f"{each} {each!r}" for each in (new, session, manager, manager.store, manager.policy)]
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        texts = await fail_at_everything(manager, new.token, shown[3])
        other.execute("ROLLBACK")
        other.execute("ALTER TABLE sessions RENAME TO away")
        with suppress(Exception):
            texts += await fail_at_everything(manager, new.token, shown[3])
        other.execute("ALTER TABLE away RENAME TO sessions")
        other.close()
        path.rename(tmp_path / "away.db")
        texts += await fail_at_everything(manager, new.token, shown[3])
    assert len(texts) > 20
    assert everything.kept
    assert holds("\n".join(texts).encode(), shown) == []
    assert holds("\n".join(everything.kept).encode(), shown) == []
    assert holds("\n".join(reprs).encode(), shown) == []


async def test_no_token_is_in_a_text_about_postgresql(
    broken_postgres: Callable[..., PostgresCluster], everything: Everything
) -> None:
    """S-10: the same on PostgreSQL, without its tables and then without the server."""
    server = broken_postgres(18)
    address = server.create_database("canary")
    await schema.upgrade(address)
    async with SessionManager(address, sweep_interval=None) as manager:
        shown = await whole_life(manager)
        new = await manager.create_session("u1")
        shown.append(new.token)
    # A short deadline for the calls that are to fail, and for those only.
    options = StoreOptions(deadline=1, connections=2)
    async with SessionManager(address, sweep_interval=None, options=options) as manager:
        reprs = [f"{each} {each!r}" for each in (new, manager, manager.store)]
        server.execute("ALTER TABLE sessions RENAME TO away", database="canary")
        texts = await fail_at_everything(manager, new.token, shown[3])
        server.execute("ALTER TABLE away RENAME TO sessions", database="canary")
        server.kill()
        texts += await fail_at_everything(manager, new.token, shown[3])
    assert len(texts) > 20
    assert holds("\n".join(texts).encode(), shown) == []
    assert holds("\n".join(everything.kept).encode(), shown) == []
    assert holds("\n".join(reprs).encode(), shown) == []
    password = str(urlsplit(address).password)
    assert password not in "\n".join(texts + everything.kept + reprs)


def test_the_search_finds_what_it_looks_for() -> None:
    """S-02: a canary that is there is found, in each spelling."""
    token = "hfs_" + "aB3" * 14 + "x" + "0123abcd"
    for form in spellings(token):
        assert holds(b"before " + form + b" after", [token]) == [token]
    assert holds(json.dumps({"a": "b"}).encode(), [token]) == []
