"""Giving all rows of a table their ids, at the first start: fast, and with the old application at work beside it.

Reading and hashing is done before a transaction begins, and each transaction is as long as the one before it suggests.
Everything is written in the order of its key: otherwise each chunk would change pages all over a large file.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from holdfast.legacy import statements
from holdfast.legacy.adoption import Adoption, key_of
from holdfast.sessions.ids import new_id
from holdfast.sessions.tokens import clear_digest_of
from holdfast.sql.failures import Kind, kind_of

_FIRST_CHUNK: Final = 500
_SMALLEST_CHUNK: Final = 100
_LARGEST_CHUNK: Final = 5000
_SECONDS: Final = 0.03
"""For which a transaction may keep the old application waiting, as far as that can be told before."""
_PATIENCE_SECONDS: Final = 30.0
_CACHE_KIBIBYTES: Final = 64 * 1024
# SQLite sorts in as much memory as the cache may have, besides the cache.
_SORTING_KIBIBYTES: Final = 8 * 1024


class WholeTable:
    """The adoption of one file's table."""

    def __init__(self, driver: sqlite3.Connection, adoption: Adoption) -> None:
        """Keep the connection, which is in no transaction."""
        self._driver = driver
        self._adoption = adoption
        self._chunk = _FIRST_CHUNK
        self._began = self._ended = 0.0

    def steps(self) -> Iterator[Callable[[], None]]:
        """What is to be done, each in a transaction of its own.

        Each is safe to repeat. Killed in between, all is done again.
        """
        with self._cache(_CACHE_KIBIBYTES):
            # Where there are none yet, nothing can be missing beside them either.
            again = self._any("holdfast_ids")
            refusals = again or self._any("holdfast_ended")
            after: bytes | None = b""
            while after is not None:
                rows = self._look(statements.OLD_ROWS, after, self._chunk)
                place = key_of(rows[-1][0]) if len(rows) == self._chunk else None
                plain, others = _parted(rows, refusals)
                yield partial(self._adopt, plain, others, (after, place) if again else None)
                self._learn()
                after = place
            for bounds in self._sorted_owners():
                yield partial(self._own, bounds)
                self._learn()
            yield self._finish

    def _adopt(self, plain: list[Any], others: list[Any], between: tuple[bytes, bytes | None] | None) -> None:
        self._began = time.monotonic()
        self._driver.execute("INSERT INTO holdfast_bulk DEFAULT VALUES")
        self._driver.executemany(statements.ADOPT_MANY, plain)
        self._driver.execute("DELETE FROM holdfast_bulk")
        for session_id in others:
            if isinstance(session_id, str):
                self._adoption.look_at(session_id)
            else:
                self._adoption.adopt(session_id, None, odd=False)
        if between is not None:
            self._driver.execute(statements.ORPHANS_AMONG, between)
        self._ended = time.monotonic()

    def _sorted_owners(self) -> Iterator[tuple[int, int]]:
        """Sort users and ids in a table that nobody else has to wait for; the bounds of its chunks."""
        for name in ("sorting", "sorted"):
            self._driver.execute(f"DROP TABLE IF EXISTS temp.holdfast_{name}")
        self._driver.execute("CREATE TEMP TABLE holdfast_sorting (user_id TEXT, id TEXT)")
        ((end,),) = self._look("SELECT coalesce(max(rowid), 0) FROM holdfast_ids")
        for start in range(0, end, _LARGEST_CHUNK):
            self._look(statements.SORT_SOME, start, start + _LARGEST_CHUNK)
        with self._cache(_SORTING_KIBIBYTES):
            self._driver.execute(
                "CREATE TEMP TABLE holdfast_sorted AS SELECT user_id, id FROM temp.holdfast_sorting "
                "ORDER BY user_id, id"
            )
        (end,) = self._driver.execute("SELECT coalesce(max(rowid), 0) FROM temp.holdfast_sorted").fetchone()
        start = 0
        while start < end:
            place, start = start, start + self._chunk
            yield place, start
        for name in ("sorting", "sorted"):
            self._driver.execute(f"DROP TABLE temp.holdfast_{name}")

    def _own(self, bounds: tuple[int, int]) -> None:
        self._began = time.monotonic()
        self._driver.execute(statements.OWN_SOME, bounds)
        self._ended = time.monotonic()

    def _finish(self) -> None:
        self._adoption.finish()

    def _any(self, table: str) -> bool:
        ((found,),) = self._look(f"SELECT EXISTS (SELECT 1 FROM {table})")  # noqa: S608 - two names
        return bool(found)

    def _look(self, statement: str, *values: Any) -> list[Any]:
        """Read, outside of any transaction of ours, however often a commit of the old application is in the way."""
        limit = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._driver.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if kind_of(error) is not Kind.RETRY or time.monotonic() > limit:
                    raise

    def _learn(self) -> None:
        """Let the next chunk be as large as the time allows. Its commit will take as long as this one's, about."""
        commit = time.monotonic() - self._ended
        wished = self._chunk * max(_SECONDS - commit, _SECONDS / 4) / max(self._ended - self._began, 1e-6)
        self._chunk = int(min(max(wished, self._chunk / 2, _SMALLEST_CHUNK), self._chunk * 2, _LARGEST_CHUNK))

    @contextmanager
    def _cache(self, kibibytes: int) -> Iterator[None]:
        (before,) = self._driver.execute("PRAGMA cache_size").fetchone()
        self._driver.execute(f"PRAGMA cache_size = -{kibibytes}")
        try:
            yield
        finally:
            self._driver.execute(f"PRAGMA cache_size = {before}")


def _parted(rows: list[Any], refusals: bool) -> tuple[list[tuple[Any, ...]], list[str | bytes]]:
    """Rows to adopt as they are, with their ids; and the keys of those that need a closer look."""
    plain: list[tuple[Any, ...]] = []
    others: list[str | bytes] = []
    for session_id, user_id, odd in rows:
        digest = clear_digest_of(session_id) if isinstance(session_id, str) and not (odd or refusals) else None
        if digest is None or not (user_id is None or (isinstance(user_id, str) and "\0" not in user_id)):
            others.append(session_id)
        else:
            plain.append((session_id, new_id().hex, bytes(digest), user_id))
    return plain, others
