"""What each method of the contract does to a legacy file: plain functions within one transaction of the writer.

A row is found and decided on first, and then changed by its key. The write lock that the transaction holds from its
beginning makes the two one step.
"""

from datetime import datetime, timedelta
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.ends import Ends
from holdfast.legacy.lists import Lists
from holdfast.legacy.version import version_of
from holdfast.sessions.errors import InvalidArgument, TooManySessions
from holdfast.sessions.policy import TICKET_LIFETIME
from holdfast.sessions.session import Created, End, NewRecord, Record
from holdfast.sessions.store import Key
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.tables import instant, since_epoch


class LegacySessions(Ends, Lists):
    """The sessions of one file."""

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
        values = (token, bytes(successor), since_epoch(self.now), found.session_id)
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

    # Tickets

    def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        found = self._live(session)
        if found is None:
            return None
        expires_at = self.now + TICKET_LIFETIME
        values = (bytes(digest), found.record.id.hex, origin, since_epoch(expires_at))
        self._driver.execute(statements.CREATE_TICKET, values)
        return expires_at

    def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        row = self._driver.execute(statements.TAKE_TICKET, (bytes(digest),)).fetchone()
        if row is None or row[1] != origin or instant(row[2]) <= self.now:
            return None
        return UUID(hex=row[0])
