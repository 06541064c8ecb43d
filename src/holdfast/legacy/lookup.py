"""Finding a legacy row by what its caller knows of it, and telling whether it is live.

A row is read and decided on in Python, because its times are texts of local time in whatever form their writer chose.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.adoption import Adoption
from holdfast.legacy.reading import Reader
from holdfast.legacy.version import version_of
from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import EndReason, Record
from holdfast.sessions.store import Key
from holdfast.sql.tables import EPOCH, instant, since_epoch


class Found(NamedTuple):
    """A legacy row that can be read, and what Holdfast keeps beside it."""

    session_id: str
    digest: bytes
    previous_digest: bytes | None
    replaced_at: datetime | None
    record: Record


class Lookup:
    """The rows of one file, for one batch after another. `begin` comes first in each."""

    def __init__(self, driver: sqlite3.Connection, reader: Reader, policy: Policy, clock: Clock) -> None:
        """Keep what every method needs; the driver's texts come back as `reading.as_text` gives them."""
        self._driver = driver
        self._reader = reader
        self._policy = policy
        self._clock = clock
        self.adoption = Adoption(driver)
        self.now = EPOCH

    def begin(self) -> None:
        """Read the clock, which decides for the whole batch, and take up what the old application did meanwhile."""
        while self.take_up():
            pass

    def take_up(self) -> bool:
        """Read the clock, and take up a chunk of what the old application did; whether there may be more."""
        self.read_clock()
        return self.adoption.drain(since_epoch(self.now), self._reader.has_expired(self.now))

    def read_clock(self) -> None:
        """Read the clock and nothing else."""
        self.now = instant(self._driver.execute(statements.NOW).fetchone()[0]) + self._clock.offset

    def _found(self, row: tuple[Any, ...]) -> Found | None:
        session_id, id, digest, previous, replaced, *values = row
        read = self._reader.read(values, self.now)
        if read is None:
            return None
        record = Record(
            UUID(hex=id),
            read.user_id,
            read.metadata,
            version_of(read.metadata),
            read.created_at,
            read.expires_at,
            read.last_activity,
            read.request_count,
        )
        return Found(session_id, digest, previous, None if replaced is None else instant(replaced), record)

    def _all(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Found]:
        """Those of some rows that can be read."""
        return (found for row in rows if (found := self._found(row)) is not None)

    def _one(self, statement: str, key: object) -> Found | None:
        row = self._driver.execute(statement, (key,)).fetchone()
        return None if row is None else self._found(row)

    def _named(self, key: Key) -> Found | None:
        if isinstance(key, UUID):
            return self._one(statements.BY_ID, key.hex)
        digest, token = bytes(key), getattr(key, "token", None)
        if token is None:
            return self._one(statements.BY_ANY_DIGEST, digest)
        found = self._one(statements.BY_TOKEN, token)
        if found is not None and found.digest == digest:
            return found
        return self._one(statements.BY_DIGEST, digest)

    def _live(self, key: Key) -> Found | None:
        found = self._named(key)
        return found if found is not None and self._is_live(found.record) else None

    def _in_grace(self, digest: bytes) -> Found | None:
        if not self._policy.rotation_grace:
            return None
        found = self._one(statements.BY_PREVIOUS, digest)
        if found is None or found.replaced_at is None or not self._is_live(found.record):
            return None
        return found if found.replaced_at + self._policy.rotation_grace > self.now else None

    def _is_live(self, record: Record) -> bool:
        return self._ran_out(record)[1] > self.now

    def _ran_out(self, record: Record) -> tuple[EndReason, datetime]:
        """How and when a session ends by itself, be that past or to come. A tie is an expiry."""
        idle = self._policy.idle_timeout
        if idle is not None and record.last_activity + idle < record.expires_at:
            return "idle", record.last_activity + idle
        return "expired", record.expires_at

    def _of_user(self, user_id: str) -> list[Found]:
        found = self._all(self._driver.execute(statements.BY_USER, (user_id,)))
        return [each for each in found if each.record.user_id == user_id and self._is_live(each.record)]
