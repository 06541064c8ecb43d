"""Writing a file beside a program that knows nothing of us, so that it gets its turn.

The old application takes no part in our turns. It waits for a lock by looking now and then, by default for five
seconds, so each of our transactions is short, and after it the file is left alone for as long as it took.
"""

import os
import random
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from holdfast.legacy import statements
from holdfast.legacy.reading import as_text
from holdfast.legacy.tables import install
from holdfast.sessions.errors import StoreRefused
from holdfast.sql.failures import Kind, NotDone
from holdfast.sql.sqlite_file import identity
from holdfast.sql.writer import FileWriter

_BUSY_MILLISECONDS: Final = 500
_LOOK_SECONDS: Final = (0.0005, 0.002)
_SHORTEST_REST_SECONDS: Final = 0.001
_LONGEST_REST_SECONDS: Final = 0.05
_UNTIL: Final = struct.Struct("d")


class BesideOthers(FileWriter):
    """What every writer of a legacy file does to leave room for the old application."""

    busy_milliseconds = _BUSY_MILLISECONDS
    """How long it waits for the old application to let go of a lock."""
    _file: tuple[int, int] | None = None

    def _connect(self, seconds: float) -> str:
        """Connect, changing nothing; the file's journal mode, which stays what it is. `seconds`: to wait for a lock."""
        self._open_lock()
        self._driver = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=seconds)
        self._file = identity(self._path)
        self._driver.text_factory = as_text
        self._driver.execute("PRAGMA synchronous = FULL")
        self._driver.execute("PRAGMA mmap_size = 0").fetchall()
        mode: str = self._driver.execute("PRAGMA journal_mode").fetchone()[0]
        self._driver.execute(f"PRAGMA busy_timeout = {self.busy_milliseconds}").fetchall()
        return mode

    def close(self) -> None:
        """Let go of the file. Safe to repeat."""
        if self._file is not None:
            self._file = None
            self._driver.close()
        self.let_go_of_lock()

    def _install(self) -> None:
        """Make what is missing of Holdfast's own tables and triggers, within the transaction that has begun."""
        if install(self._driver):
            # Rows may have come and gone unnoticed.
            self._driver.execute(statements.SET_ADOPTED, (0,))

    def refuse_replaced(self) -> None:
        """See `FileWriter`."""
        if identity(self._path) != self._file:
            raise StoreRefused(
                f"{self._where} was replaced or deleted while it was open; stop all processes that use it, put the "
                "right file in place and start again"
            )

    def _statement(self, text: str) -> None:
        """See `FileWriter`. Waits for the write lock by looking often, where SQLite would look ever less often.

        The old application's processes let go of it for moments only, and one batch of ours serves many callers.
        """
        limit = time.monotonic() + self.busy_milliseconds / 1000
        self._driver.execute("PRAGMA busy_timeout = 0").fetchall()
        try:
            while True:
                try:
                    super()._statement(text)
                    return
                except NotDone as error:
                    if error.kind is not Kind.RETRY or time.monotonic() > limit:
                        raise
                time.sleep(random.uniform(*_LOOK_SECONDS))  # noqa: S311 - jitter, no secret
        finally:
            self._driver.execute(f"PRAGMA busy_timeout = {self.busy_milliseconds}").fetchall()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """See `FileWriter`. Turns of all our processes together leave the file alone for half of the time."""
        with super()._turn():
            now = time.monotonic()
            until = self._left_alone_until()
            if now < until < now + 2 * _LONGEST_REST_SECONDS:
                time.sleep(until - now)
            began = time.monotonic()
            try:
                yield
            finally:
                ended = time.monotonic()
                rest = min(max(ended - began, _SHORTEST_REST_SECONDS), _LONGEST_REST_SECONDS)
                with suppress(OSError):
                    os.pwrite(self._lock, _UNTIL.pack(ended + rest), 0)

    def _left_alone_until(self) -> float:
        """In the lock's file, where the next process finds it. The clock is the machine's, the same for all."""
        with suppress(OSError, struct.error):
            until: float = _UNTIL.unpack(os.pread(self._lock, _UNTIL.size, 0))[0]
            return until
        return 0.0
