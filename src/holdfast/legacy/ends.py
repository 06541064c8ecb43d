"""How sessions of a legacy file end, what is known of them then, and for how long."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.lookup import Found, Lookup
from holdfast.sessions.policy import HOOKS_EXPECTED_FOR
from holdfast.sessions.session import End, EndReason, Standing, WhyEnded
from holdfast.sessions.store import Key
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.tables import instant, since_epoch


class Ends(Lookup):
    """The part that ends sessions, and tells of their ends."""

    def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        found = self._live(key)
        return None if found is None else self._ended(found, reason)

    def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return [self._ended(each, reason) for each in self._of_user(user_id) if each.record.id != keep]

    def _ended(self, found: Found, reason: EndReason) -> End:
        record = found.record
        self.adoption.bury(found.session_id, record.user_id, reason, since_epoch(self.now))
        self._driver.execute(statements.DELETE, (found.session_id,))
        return End(str(record.id), record.user_id, reason, self.now)

    def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        self._driver.execute(statements.ERASE_TICKETS, (user_id,))
        self._driver.execute(statements.ERASE_IDS, (user_id,))
        gone = self._driver.execute(statements.DELETE_OF_USER, (user_id,)).rowcount
        gone += self._driver.execute(statements.ERASE_ENDED, (user_id,)).rowcount
        self._driver.execute(statements.ERASE_NOTES, (user_id,))
        return gone

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
        rows = self._driver.execute(statements.JUST_ENDED, (since_epoch(self.now - window), limit)).fetchall()
        return [UUID(hex=id) for (id,) in rows]

    def ends(self) -> list[tuple[int, str | None]]:
        """When each session ended whose trace is kept, in microseconds since 1970, and whose it was."""
        return self._driver.execute(statements.ENDS).fetchall()

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
        return list(islice((found for found in self._all(rows) if not self._is_live(found.record)), limit))

    def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        rows = self._driver.execute(statements.UNTOLD, (since_epoch(self.now - older_than), limit)).fetchall()
        return [_end(row) for row in rows]

    def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        self._driver.executemany(statements.TOLD, [(since_epoch(self.now), id.hex) for id in ids])

    def expect_hooks(self) -> None:
        """See `Store`."""
        self._driver.execute(statements.EXPECT_HOOKS, (since_epoch(self.now),))

    def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        lease = since_epoch(self.now - HOOKS_EXPECTED_FOR)
        values = (since_epoch(self.now - older_than), json.dumps(list(reasons)), lease, limit)
        self._driver.execute(statements.DELETE_TICKETS, (since_epoch(self.now), limit))
        return self._driver.execute(statements.DELETE_ENDED, values).rowcount


def _end(row: tuple[Any, ...]) -> End:
    id, user_id, reason, ended_at = row
    return End(str(UUID(hex=id)), user_id, reason, instant(ended_at))
