"""The single writer of a SQLite file, alone: whose turn it is, what a probe is worth, and how it starts and ends."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.policy import Policy
from holdfast.sql import schema
from holdfast.sql import writer as module
from holdfast.sql.failures import Kind, NotDone
from holdfast.sql.joiner import Batch
from holdfast.sql.statements import Statements
from holdfast.sql.tables import tables
from holdfast.sql.writer import Writer


def made(path: Path) -> Writer:
    """A writer that is not open yet."""
    return Writer(path, Statements(tables(None), Policy()), Clock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the tables."""
    asyncio.run(schema.upgrade(tmp_path / "sessions.db"))
    return tmp_path / "sessions.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    """An open writer."""
    opened = made(path)
    opened.open()
    yield opened
    opened.close()


def test_one_writer_has_its_turn_at_a_time(writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-43: the second is told, after a while, that nothing was done and that it may try again."""
    monkeypatch.setattr(module, "_BUSY_MILLISECONDS", 20)
    other = made(path)
    other.open()
    with writer._turn():
        with pytest.raises(NotDone) as caught:
            other.write(Batch([]))
        assert caught.value.kind is Kind.RETRY
    assert other.write(Batch([])) == []
    other.close()


def test_a_probe_reaches_the_disk(writer: Writer, path: Path) -> None:
    """F-46, I-13: it changes nothing, and yet the log grows by it: what is not written cannot fail."""
    log = path.with_name("sessions.db-wal")
    before = log.stat().st_size
    writer._driver.execute("BEGIN IMMEDIATE")
    writer.probe(None, False)  # type: ignore[arg-type]  # it uses the driver's connection
    writer._driver.execute("COMMIT")
    assert log.stat().st_size > before
    assert writer._driver.execute("SELECT epoch FROM holdfast_control").fetchone() == (1,)


def test_a_transaction_left_behind_is_left_first(writer: Writer) -> None:
    """F-42: should one ever be open when a batch begins, it is not committed with it."""
    writer._driver.execute("BEGIN IMMEDIATE")
    writer._driver.execute("UPDATE holdfast_control SET epoch = 99")
    assert writer.write(Batch([])) == []
    assert writer._driver.execute("SELECT epoch FROM holdfast_control").fetchone() == (1,)


def test_a_store_that_gave_the_authority_away_refuses(writer: Writer) -> None:
    """Promise 8: the control row is read in the write's own transaction."""
    writer._driver.execute("UPDATE holdfast_control SET authority = 'elsewhere'")
    with pytest.raises(NotDone) as caught:
        writer.write(Batch([]))
    assert caught.value.kind is Kind.MOVED


def test_closing_twice_and_without_opening(path: Path) -> None:
    """F-53: safe to repeat, and after an opening that failed; the last one to close leaves no log behind."""
    writer = made(path)
    writer.close()
    writer.open()
    writer.close()
    writer.close()
    assert not path.with_name("sessions.db-wal").exists()
    path.with_name("sessions.db-lock").unlink()
    path.with_name("sessions.db-lock").mkdir()
    with pytest.raises(StoreRefused, match="-lock cannot be opened"):
        writer.open()
    writer.close()
