"""The single writer of a SQLite file, alone: whose turn it is, what a probe is worth, and how it starts and ends."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from holdfast.sql.writer import Write, Writer


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
    monkeypatch.setattr(module, "BUSY_MILLISECONDS", 20)
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


class Probes(Batch[Write, Any]):
    """So many writes that nobody waits for, each of which changes two rows."""

    def __init__(self, writer: Writer, number: int) -> None:
        super().__init__([])
        self._writes: list[Write] = [writer.probe] * number

    def begin(self) -> list[Write]:
        return self._writes


def test_a_busy_log_is_written_over_and_an_idle_one_emptied(
    writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-49: it stays as long as it is while much is written, however much that is, and takes no room afterwards."""
    monkeypatch.setattr(module, "_CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(module, "_BUSY_ROWS", 10)
    log = path.with_name("sessions.db-wal")
    sizes = []
    for number in (5, 5, 5, 4):
        writer._next_checkpoint = 0
        writer.write(Probes(writer, number))
        sizes.append(log.stat().st_size)
    assert sizes[0] > 0
    assert sizes == [sizes[0]] * 3 + [0]


def test_a_log_that_grows_fast_is_moved_before_its_time(
    writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-49: else it would outgrow the length at which SQLite cuts it."""
    monkeypatch.setattr(module, "_CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(module, "_MANY_ROWS", 10)
    monkeypatch.setattr(module, "_CHECKPOINT_SECONDS", 3600.0)
    log = path.with_name("sessions.db-wal")
    writer.write(Probes(writer, 4))
    assert log.stat().st_size == 0
    writer.write(Probes(writer, 4))
    assert log.stat().st_size > 0
    writer.write(Probes(writer, 1))
    assert log.stat().st_size == 0


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
