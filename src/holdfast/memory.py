"""The reference store: plain dictionaries, to read beside the contract and to test against.

Every method runs from its first line to its last without waiting, so each is atomic, and the order of calls
is that of the changes. It is the one store whose clock is the process's, and the one that survives no crash:
what it keeps is gone with the process. `close` keeps everything, so that it can be opened again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreUnavailable, TooManySessions
from holdfast.sessions.policy import HOOKS_EXPECTED_FOR, TICKET_LIFETIME, Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.store import Channel, Hint, Key
from holdfast.sessions.tokens import TokenDigest


@dataclass(slots=True)
class _Row:
    """One session, live or ended."""

    id: UUID
    digest: bytes
    user_id: str | None
    metadata: str
    created_at: datetime
    expires_at: datetime
    last_activity: datetime
    metadata_version: int = 1
    request_count: int = 0
    previous_digest: bytes | None = None
    replaced_at: datetime | None = None
    end: End | None = None
    """`None` until the end was made or noted: one that ran out unseen has none yet, and is dead even so."""
    told: bool = False

    def record(self) -> Record:
        return Record(
            self.id,
            self.user_id,
            self.metadata,
            self.metadata_version,
            self.created_at,
            self.expires_at,
            self.last_activity,
            self.request_count,
        )


class _Ticket(NamedTuple):
    session_id: UUID
    origin: str | None
    expires_at: datetime


class MemoryStore:
    """Sessions in the memory of one process. Satisfies `Store`; see there for what each method promises."""

    def __init__(self) -> None:
        """Make an empty store; opening connects to nothing."""
        self._rows: dict[UUID, _Row] = {}
        self._tickets: dict[bytes, _Ticket] = {}
        self._hooks_expected_until: datetime | None = None
        self._policy = Policy()
        self._clock = Clock()
        self._open = False

    async def open(self, policy: Policy, clock: Clock) -> None:
        """Take the policy and the clock; sessions from before a `close` are still there."""
        self._policy = policy
        self._clock = clock
        self._open = True

    async def close(self) -> None:
        """Refuse calls from here on."""
        self._open = False

    async def ping(self) -> datetime:
        """The clock of this process, offset included."""
        return self._now()

    async def create(self, record: NewRecord) -> Record:
        """Insert a session, unless an earlier attempt did."""
        now = self._now()
        row = self._rows.get(record.id)
        if row is None:
            expires_at = now + self._policy.lifetime
            row = _Row(record.id, record.digest, record.user_id, record.metadata, now, expires_at, now)
            self._rows[row.id] = row
        return row.record()

    async def create_capped(self, record: NewRecord) -> Created:
        """Insert a session if there is room, or make room."""
        now = self._now()
        cap = self._policy.max_sessions
        evicted: list[End] = []
        if record.id not in self._rows and cap is not None and record.user_id is not None:
            of_user = (row for row in self._all_live(now) if row.user_id == record.user_id)
            rows = sorted(of_user, key=lambda row: (row.created_at, row.id))
            surplus = rows[: max(0, len(rows) + 1 - cap)]
            if surplus and self._policy.at_cap == "refuse":
                raise TooManySessions(f"the user has {len(rows)} live sessions, and the cap is {cap}")
            evicted = [_ended(row, "evicted", now) for row in surplus]
        return Created(await self.create(record), evicted)

    async def touch(self, key: Key) -> Record | None:
        """Count one activity; within the grace the direct predecessor's digest counts too."""
        now = self._now()
        row = self._live(key, now)
        if row is None and not isinstance(key, UUID):
            row = self._in_grace(key, now)
        if row is None:
            return None
        row.request_count += 1
        # The process's clock may be set back; the activity never is.
        row.last_activity = max(row.last_activity, now)
        return row.record()

    async def get(self, key: Key) -> Record | None:
        """A live session; changes nothing."""
        row = self._live(key, self._now())
        return None if row is None else row.record()

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """Prolong a live session up to the cap, never shorten it."""
        now = self._now()
        row = self._live(key, now)
        if row is None:
            return None
        wished = now + by
        if self._policy.max_lifetime is not None:
            wished = min(wished, row.created_at + self._policy.max_lifetime)
        row.expires_at = max(row.expires_at, wished)
        return row.expires_at

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """Compare the present digest and set the successor; an earlier attempt's success counts."""
        now = self._now()
        row = self._live(digest, now)
        if row is None:
            earlier = self._live(successor, now)
            return earlier.record() if earlier is not None and earlier.previous_digest == digest else None
        row.digest, row.previous_digest, row.replaced_at = successor, digest, now
        return row.record()

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """Compare the version and set the metadata."""
        row = self._live(key, self._now())
        if row is None or row.metadata_version != version:
            return None
        row.metadata = metadata
        row.metadata_version += 1
        return row.record()

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """End a live session."""
        now = self._now()
        row = self._live(key, now)
        return None if row is None else _ended(row, reason, now)

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """End all live sessions of a user but one."""
        now = self._now()
        return [_ended(row, reason, now) for row in self._all_live(now) if row.user_id == user_id and row.id != keep]

    async def erase_user(self, user_id: str) -> int:
        """Delete every row of a user, and the tickets of those sessions."""
        self._now()
        gone = {row.id for row in self._rows.values() if row.user_id == user_id}
        self._rows = {key: row for key, row in self._rows.items() if key not in gone}
        self._tickets = {key: ticket for key, ticket in self._tickets.items() if ticket.session_id not in gone}
        return len(gone)

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """Why a digest opens nothing. A replaced one says so once its grace is over."""
        now = self._now()
        for row in self._rows.values():
            if row.digest == digest:
                end = self._end_of(row, now)
                return None if end is None else end.reason
            if row.previous_digest == digest:
                return "replaced" if self._in_grace(digest, now) is None else None
        return "unknown"

    async def end_of(self, id: UUID) -> End | None:
        """When and why a session ended, noted or not."""
        now = self._now()
        row = self._rows.get(id)
        return None if row is None else self._end_of(row, now)

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """Look each one up."""
        now = self._now()
        rows = [row for row in map(self._rows.get, ids) if row is not None]
        ends = (self._end_of(row, now) for row in rows)
        live = [(row.id, self._ran_out(row)[1]) for row in rows if self._is_live(row, now)]
        return Standing(now, live, [end for end in ends if end is not None])

    @property
    def channel(self) -> Channel:
        """There is no other process, so being told of its ends takes no time."""
        return "push"

    async def listen(self, hint: Hint) -> None:
        """Nothing to hear: there is no other process."""
        await asyncio.get_running_loop().create_future()

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """The live session that replaced this digest some time ago, and went on."""
        now = self._now()
        for row in self._all_live(now):
            if row.previous_digest == digest and row.replaced_at is not None:
                past = row.replaced_at + self._policy.rotation_grace <= now
                return row.id if past and row.last_activity > row.replaced_at else None
        return None

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """A page of live sessions in order of id."""
        rows = (
            row
            for row in sorted(self._all_live(self._now()), key=lambda row: row.id)
            if (user_id is None or row.user_id == user_id) and (after is None or row.id > after)
        )
        return [row.record() for row in islice(rows, limit)]

    async def count_live(self) -> int:
        """How many sessions are live now."""
        return sum(1 for _ in self._all_live(self._now()))

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """Keep a ticket for a live session."""
        now = self._now()
        row = self._live(session, now)
        if row is None:
            return None
        ticket = _Ticket(row.id, origin, now + TICKET_LIFETIME)
        self._tickets[digest] = ticket
        return ticket.expires_at

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """Use a ticket up, good or not."""
        now = self._now()
        ticket = self._tickets.pop(digest, None)
        if ticket is None or ticket.expires_at <= now or ticket.origin != origin:
            return None
        return ticket.session_id

    async def mark_expired(self, limit: int) -> list[End]:
        """Note the end of sessions that have run out; their retention begins now."""
        now = self._now()
        due = (row for row in self._rows.values() if row.end is None and not self._is_live(row, now))
        return [_ended(row, self._ran_out(row)[0], now) for row in islice(due, limit)]

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """Noted ends that no hook has heard of, the oldest first."""
        before = self._now() - older_than
        ends = (row.end for row in self._rows.values() if row.end is not None and not row.told)
        return sorted((end for end in ends if end.ended_at <= before), key=lambda end: end.ended_at)[:limit]

    async def told(self, ids: Sequence[UUID]) -> None:
        """Note that a hook has heard of these ends."""
        self._now()
        for row in filter(None, map(self._rows.get, ids)):
            row.told = True

    async def expect_hooks(self) -> None:
        """Keep ends until a hook has heard of them, for a week from now."""
        self._hooks_expected_until = self._now() + HOOKS_EXPECTED_FOR

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """Delete what was kept long enough, and tickets past their time."""
        now = self._now()
        self._tickets = {key: ticket for key, ticket in self._tickets.items() if ticket.expires_at > now}
        hooks_expected = self._hooks_expected_until is not None and self._hooks_expected_until > now
        due = [
            row.id
            for row in self._rows.values()
            if row.end is not None
            and row.end.reason in reasons
            and row.end.ended_at <= now - older_than
            and (row.told or not hooks_expected)
        ][:limit]
        for key in due:
            del self._rows[key]
        return len(due)

    # What the statements of the other stores say in SQL

    def _now(self) -> datetime:
        if not self._open:
            raise StoreUnavailable("the store is not open")
        return datetime.now(UTC) + self._clock.offset  # noqa: TID251 - this store's clock is the process's

    def _is_live(self, row: _Row, now: datetime) -> bool:
        return row.end is None and self._ran_out(row)[1] > now

    def _ran_out(self, row: _Row) -> tuple[EndReason, datetime]:
        """How and when a session ends by itself, be that past or to come. A tie is an expiry."""
        idle = self._policy.idle_timeout
        if idle is not None and row.last_activity + idle < row.expires_at:
            return "idle", row.last_activity + idle
        return "expired", row.expires_at

    def _end_of(self, row: _Row, now: datetime) -> End | None:
        if row.end is not None or self._is_live(row, now):
            return row.end
        return End(str(row.id), row.user_id, *self._ran_out(row))

    def _all_live(self, now: datetime) -> Iterator[_Row]:
        return (row for row in self._rows.values() if self._is_live(row, now))

    def _live(self, key: Key, now: datetime) -> _Row | None:
        if isinstance(key, UUID):
            row = self._rows.get(key)
        else:
            row = next((row for row in self._rows.values() if row.digest == key), None)
        return row if row is not None and self._is_live(row, now) else None

    def _in_grace(self, digest: TokenDigest, now: datetime) -> _Row | None:
        for row in self._all_live(now):
            if row.previous_digest == digest and row.replaced_at is not None:
                return row if row.replaced_at + self._policy.rotation_grace > now else None
        return None


def _ended(row: _Row, reason: EndReason, at: datetime) -> End:
    row.end = End(str(row.id), row.user_id, reason, at)
    return row.end
