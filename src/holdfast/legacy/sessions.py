"""What each method of the contract does to a legacy file: plain functions within one transaction of the writer.

A row is read and decided on in Python, because its times are texts of local time in whatever form their writer chose;
then it is changed by its key. The write lock that the transaction holds from its beginning makes the two one step.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.adoption import Adoption
from holdfast.legacy.reading import Reader
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import InvalidArgument, TooManySessions
from holdfast.sessions.policy import HOOKS_EXPECTED_FOR, TICKET_LIFETIME, Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.store import Key
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.tables import instant, microseconds

_EPOCH = instant(0)


class Found(NamedTuple):
    """A legacy row that can be read, and what Holdfast keeps beside it."""

    session_id: str
    digest: bytes
    previous_digest: bytes | None
    replaced_at: datetime | None
    record: Record


class LegacySessions:
    """The sessions of one file, for one batch after another. `begin` comes first in each."""

    def __init__(self, driver: sqlite3.Connection, reader: Reader, policy: Policy, clock: Clock) -> None:
        """Keep what every method needs; the driver's texts come back as `reading.as_text` gives them."""
        self._driver = driver
        self._reader = reader
        self._policy = policy
        self._clock = clock
        self.adoption = Adoption(driver)
        self.now = _EPOCH

    def begin(self) -> None:
        """Read the clock, which decides for the whole batch, and take up what the old application did meanwhile."""
        while self.take_up():
            pass

    def take_up(self) -> bool:
        """Read the clock, and take up a chunk of what the old application did; whether there may be more."""
        self.read_clock()
        return self.adoption.drain(_micro(self.now), self._reader.has_expired(self.now))

    def read_clock(self) -> None:
        """Read the clock and nothing else."""
        micro = self._driver.execute(statements.NOW).fetchone()[0]
        self.now = instant(micro) + self._clock.offset

    # Finding

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
        rows = self._driver.execute(statements.BY_USER, (user_id,)).fetchall()
        found = (each for row in rows if (each := self._found(row)) is not None)
        return [each for each in found if each.record.user_id == user_id and self._is_live(each.record)]

    # One session

    def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        found = self._one(statements.BY_ID, record.id.hex)
        if found is not None:
            return found.record
        over = self.end_of(record.id)
        if over is not None:
            # The earlier attempt's session, and it is over already: nothing may make it a second time.
            at = over.ended_at
            return Record(record.id, record.user_id, record.metadata, version_of(record.metadata), at, at, at, 0)
        token = getattr(record.digest, "token", None)
        if token is None:
            raise InvalidArgument("a legacy table keeps tokens in clear: a session there needs its token")
        now, expiry = self._reader.text(self.now), self._reader.expiry(self.now + self._policy.lifetime)
        values = (token, record.user_id, record.metadata, now, expiry, now)
        # Its id first: the trigger's note then finds nothing left to do.
        self._driver.execute(statements.ADOPT, (token, record.id.hex, bytes(record.digest), record.user_id, False))
        self._driver.execute(statements.CREATE, values)
        made = self._one(statements.BY_ID, record.id.hex)
        assert made is not None  # noqa: S101 - for the type checker: the row was written a line ago
        return made.record

    def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        evicted: list[End] = []
        cap, user = self._policy.max_sessions, record.user_id
        if cap is not None and user is not None and self._one(statements.BY_ID, record.id.hex) is None:
            live = sorted(self._of_user(user), key=lambda each: (each.record.created_at, each.record.id))
            surplus = live[: max(0, len(live) + 1 - cap)]
            if surplus and self._policy.at_cap == "refuse":
                raise TooManySessions(f"the user has {len(live)} live sessions, and the cap is {cap}")
            evicted = [self._ended(each, "evicted") for each in surplus]
        return Created(self.create(record), evicted)

    def touch(self, key: Key, activities: int) -> Record | None:
        """See `Store`."""
        found = self._live(key)
        if found is None and not isinstance(key, UUID):
            found = self._in_grace(bytes(key))
        if found is None:
            return None
        record = found.record
        count, activity = record.request_count + activities, max(record.last_activity, self.now)
        self._driver.execute(statements.TOUCH, (count, self._reader.text(activity), found.session_id))
        return record._replace(request_count=count, last_activity=activity)

    def get(self, key: Key) -> Record | None:
        """See `Store`."""
        found = self._live(key)
        return None if found is None else found.record

    def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        found = self._live(key)
        if found is None:
            return None
        wished = self.now + by
        if self._policy.max_lifetime is not None:
            wished = min(wished, found.record.created_at + self._policy.max_lifetime)
        if wished <= found.record.expires_at:
            return found.record.expires_at
        self._driver.execute(statements.EXTEND, (self._reader.expiry(wished), found.session_id))
        extended = self._one(statements.BY_ID, found.record.id.hex)
        return None if extended is None else extended.record.expires_at

    def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        found = self._live(digest)
        if found is None:
            earlier = self._live(successor)
            return earlier.record if earlier is not None and earlier.previous_digest == digest else None
        token = getattr(successor, "token", None)
        if token is None:
            raise InvalidArgument("a legacy table keeps tokens in clear: a rotation there needs the new token")
        values = (token, bytes(successor), _micro(self.now), found.session_id)
        self._driver.execute(statements.ROTATE_ID, values)
        self._driver.execute(statements.ROTATE, (token, found.session_id))
        return found.record

    def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`. The version is made of the text, so that a change by the old application counts as one."""
        found = self._live(key)
        if found is None or found.record.metadata_version != version:
            return None
        self._driver.execute(statements.MERGE, (metadata, found.session_id))
        return found.record._replace(metadata=metadata, metadata_version=version_of(metadata))

    def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        found = self._live(key)
        return None if found is None else self._ended(found, reason)

    def _ended(self, found: Found, reason: EndReason) -> End:
        record = found.record
        self.adoption.bury(found.session_id, record.user_id, reason, _micro(self.now))
        self._driver.execute(statements.DELETE, (found.session_id,))
        return End(str(record.id), record.user_id, reason, self.now)

    # What is over, and why

    def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        found = self._named(digest)
        if found is not None:
            reason, due = self._ran_out(found.record)
            return None if due > self.now else reason
        plain = bytes(digest)
        if self._one(statements.BY_PREVIOUS, plain) is not None:
            return None if self._in_grace(plain) is not None else "replaced"
        row = self._driver.execute(statements.WHY, (plain,)).fetchone()
        if row is None:
            return "unknown"
        over: WhyEnded = row[1] if row[0] else "replaced"
        return over

    def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        row = self._driver.execute(statements.END_OF, (id.hex,)).fetchone()
        if row is not None:
            return _end(row)
        found = self._one(statements.BY_ID, id.hex)
        if found is None or self._is_live(found.record):
            return None
        return End(str(id), found.record.user_id, *self._ran_out(found.record))

    def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        live: list[tuple[UUID, datetime]] = []
        ended: list[End] = []
        for id in ids:
            over = self.end_of(id)
            if over is not None:
                ended.append(over)
            elif (found := self._one(statements.BY_ID, id.hex)) is not None:
                live.append((id, self._ran_out(found.record)[1]))
        return Standing(self.now, live, ended)

    def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        found = self._one(statements.BY_PREVIOUS, bytes(digest))
        if found is None or found.replaced_at is None or not self._is_live(found.record):
            return None
        past = found.replaced_at + self._policy.rotation_grace <= self.now
        return found.record.id if past and found.record.last_activity > found.replaced_at else None

    def just_ended(self, window: timedelta, limit: int) -> list[UUID]:
        """Some of the sessions whose end was noted within the window."""
        rows = self._driver.execute(statements.JUST_ENDED, (_micro(self.now - window), limit)).fetchall()
        return [UUID(hex=id) for (id,) in rows]

    # Many sessions

    def page(self, user_id: str | None, limit: int, after: UUID | None) -> tuple[list[Record], UUID | None]:
        """Look at some sessions in order of id: the live ones, and the id to go on after, `None` at the end."""
        start = "" if after is None else after.hex
        if user_id is None:
            rows = self._driver.execute(statements.PAGE, (start, limit)).fetchall()
        else:
            rows = self._driver.execute(statements.PAGE_OF_USER, (user_id, start, limit)).fetchall()
        records = [found.record for row in rows if (found := self._found(row)) is not None]
        live = [record for record in records if self._is_live(record) and user_id in (None, record.user_id)]
        return live, UUID(hex=rows[-1][1]) if len(rows) == limit else None

    def kept(self, limit: int, after: UUID | None) -> tuple[list[tuple[Record, bool]], UUID | None]:
        """Some rows in order of id, each with whether it is live; and the id to go on after, `None` at the end."""
        rows = self._driver.execute(statements.PAGE, ("" if after is None else after.hex, limit)).fetchall()
        records = [found.record for row in rows if (found := self._found(row)) is not None]
        place = UUID(hex=rows[-1][1]) if len(rows) == limit else None
        return [(record, self._is_live(record)) for record in records], place

    def ends(self) -> list[tuple[int, str | None]]:
        """When each session ended whose trace is kept, in microseconds since 1970, and whose it was."""
        return self._driver.execute(statements.ENDS).fetchall()

    def count_live(self) -> int | None:
        """See `Store`. Rows in the usual form are counted by SQLite, the others one by one.

        `None` when it would take long: in hours in which texts of local times do not compare as their instants do, and
        with an idle timeout.
        """
        text = self._reader.steady(self.now)
        if text is None or self._policy.idle_timeout is not None:
            return None
        count: int = self._driver.execute(statements.COUNT, {"text": text}).fetchone()[0]
        return count + self._count(statements.ODD)

    def _count(self, statement: str) -> int:
        return sum(1 for row in self._driver.execute(statement) if (f := self._found(row)) and self._is_live(f.record))

    def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return [self._ended(each, reason) for each in self._of_user(user_id) if each.record.id != keep]

    def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        self._driver.execute(statements.ERASE_TICKETS, (user_id,))
        self._driver.execute(statements.ERASE_IDS, (user_id,))
        gone = self._driver.execute(statements.DELETE_OF_USER, (user_id,)).rowcount
        gone += self._driver.execute(statements.ERASE_ENDED, (user_id,)).rowcount
        self._driver.execute(statements.ERASE_NOTES, (user_id,))
        return gone

    # Tickets

    def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        found = self._live(session)
        if found is None:
            return None
        expires_at = self.now + TICKET_LIFETIME
        values = (bytes(digest), found.record.id.hex, origin, _micro(expires_at))
        self._driver.execute(statements.CREATE_TICKET, values)
        return expires_at

    def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        row = self._driver.execute(statements.TAKE_TICKET, (bytes(digest),)).fetchone()
        if row is None or row[1] != origin or instant(row[2]) <= self.now:
            return None
        return UUID(hex=row[0])

    # The sweep

    def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        return [self._ended(found, self._ran_out(found.record)[0]) for found in self._due(limit)]

    def _due(self, limit: int) -> list[Found]:
        values = {"text": self._reader.no_earlier(self.now), "seconds": self.now.timestamp()}
        if (idle := self._policy.idle_timeout) is None:
            rows = self._driver.execute(statements.DUE, values)
        else:
            values["idle"] = self._reader.no_earlier(self.now - idle)
            rows = self._driver.execute(statements.DUE_OR_IDLE, values)
        return list(_first(limit, (f for row in rows if (f := self._found(row)) and not self._is_live(f.record))))

    def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        rows = self._driver.execute(statements.UNTOLD, (_micro(self.now - older_than), limit)).fetchall()
        return [_end(row) for row in rows]

    def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        self._driver.executemany(statements.TOLD, [(_micro(self.now), id.hex) for id in ids])

    def expect_hooks(self) -> None:
        """See `Store`."""
        self._driver.execute(statements.EXPECT_HOOKS, (_micro(self.now),))

    def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        lease = _micro(self.now - HOOKS_EXPECTED_FOR)
        values = (_micro(self.now - older_than), json.dumps(list(reasons)), lease, limit)
        self._driver.execute(statements.DELETE_TICKETS, (_micro(self.now), limit))
        return self._driver.execute(statements.DELETE_ENDED, values).rowcount


def version_of(metadata: str) -> int:
    """A number for a text of metadata: the same for the same text, another one for any other."""
    return version_of_encoded(metadata.encode(errors="surrogatepass"))


def version_of_encoded(metadata: bytes) -> int:
    """The same for its UTF-8."""
    return int.from_bytes(sha256(metadata).digest()[:7])


def _micro(at: datetime) -> int:
    return microseconds(at - _EPOCH)


def _end(row: tuple[Any, ...]) -> End:
    id, user_id, reason, ended_at = row
    return End(str(UUID(hex=id)), user_id, reason, instant(ended_at))


def _first(limit: int, found: Iterator[Found]) -> Iterator[Found]:
    """So many, and the rest unseen."""
    for _, each in zip(range(limit), found, strict=False):
        yield each
