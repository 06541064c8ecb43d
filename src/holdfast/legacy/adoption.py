"""Giving legacy rows their ids, and noticing those that the old application deleted.

The triggers note the keys of both, so that looking for them costs as much as there is news, and nothing when there is
none: an unknown token makes nobody read the table.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from holdfast.legacy import statements
from holdfast.sessions.ids import new_id
from holdfast.sessions.session import EndReason
from holdfast.sessions.tokens import clear_digest_of

CHUNK: Final = 500
"""Rows in one transaction: the old application waits for it, and by default not longer than five seconds."""


class Adoption:
    """The adoption of one file's rows. Every method runs within a transaction that holds the write lock."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        """Keep the connection."""
        self._driver = driver

    def backlog(self) -> int:
        """How many notes there are, up to a bound of more than a chunk. Needs no lock."""
        count: int = self._driver.execute(statements.BACKLOG, (CHUNK + 1,)).fetchone()[0]
        return count

    def finish(self) -> None:
        """Note that all rows from before the triggers have been looked at. An empty key comes before all others."""
        self.look_at("")
        self._driver.execute(statements.SET_ADOPTED, (1,))

    def drain(self, now: int, expired: Callable[[Any], bool]) -> bool:
        """Do what a chunk of notes asks for: rows that came get ids, of those that went the traces are kept.

        Whether there may be more. `now` is in microseconds since 1970; `expired` tells of an expiry, as it was stored,
        whether it has passed.
        """
        came = self._driver.execute(statements.NEW, (CHUNK,)).fetchall()
        went = self._driver.execute(statements.GONE, (CHUNK,)).fetchall()
        for number, session_id in came:
            if not isinstance(session_id, str):
                self._driver.execute(statements.UNREAD_NEW, (number,))
                continue
            self.look_at(session_id)
        for _, session_id, user_id, expires_at in went:
            if isinstance(session_id, str) and self._row(session_id) is None:
                self._driver.execute(statements.READ, (session_id,))
                self._gone(session_id, user_id, "expired" if expired(expires_at) else "revoked", now)
        for table, notes in (("holdfast_new", came), ("holdfast_gone", went)):
            if notes:
                self._driver.execute(f"DELETE FROM {table} WHERE seq <= ?", (notes[-1][0],))  # noqa: S608 - two names
        return CHUNK in (len(came), len(went))

    def bury(self, session_id: str, user_id: Any, reason: EndReason, now: int) -> bool:
        """Keep the trace of an end, and nothing else of the session; whether there was anything of it.

        `now` is in microseconds since 1970. Safe to repeat.
        """
        known = self._driver.execute(statements.ID_OF, (session_id,)).fetchone()
        if known is None:
            return False
        id, digest, previous, owner = known
        self._driver.execute(statements.BURY, (id, digest, previous, as_user(user_id) or owner, now, reason))
        self._driver.execute(statements.FORGET_TICKETS, (id,))
        self._driver.execute(statements.FORGET, (session_id,))
        return True

    def _row(self, session_id: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._driver.execute(statements.OLD_ROW, (session_id,)).fetchone()
        return row

    def _gone(self, session_id: str, user_id: Any, reason: EndReason, now: int) -> None:
        if not self.bury(session_id, user_id, reason, now) and (digest := clear_digest_of(session_id)) is not None:
            self._driver.execute(statements.REVIVE, (0, bytes(digest)))

    def look_at(self, session_id: str) -> None:
        """Note of a row, if it is there, what it is now."""
        row = self._row(session_id)
        if row is None:
            return
        user_id, odd = row
        values = (as_user(user_id), odd or is_odd(user_id), session_id)
        if self._driver.execute(statements.SET_USER, values).rowcount == 0:
            self.adopt(session_id, user_id, odd=odd)

    def adopt(self, session_id: str | bytes, user_id: Any, *, odd: bool) -> None:
        """Give a row its id, unless it has one; or note that it is no session."""
        digest = clear_digest_of(session_id) if isinstance(session_id, str) else None
        if digest is None:
            self._driver.execute(statements.UNREAD, (key_of(session_id),))
            return
        # The plain value: the driver knows no subclass of bytes.
        digest_value = bytes(digest)
        if self._driver.execute(statements.IS_REFUSED, (digest_value,)).fetchone() is not None:
            self._driver.execute(statements.REVIVE, (1, digest_value))
            self._driver.execute(statements.UNREAD, (key_of(session_id),))
            return
        values = (session_id, new_id().hex, digest_value, as_user(user_id), odd or is_odd(user_id))
        self._driver.execute(statements.ADOPT, values)
        self._driver.execute(statements.READ, (session_id,))


def as_user(value: Any) -> str | None:
    """A legacy user id that can be one of Holdfast's; `None` for one that cannot, and for none."""
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) and "\0" not in value else None


def key_of(session_id: str | bytes) -> bytes:
    """A key's own bytes: it need not be UTF-8."""
    return session_id.encode(errors="surrogatepass") if isinstance(session_id, str) else session_id


def is_odd(value: Any) -> bool:
    """Whether only a closer look can tell about a user id."""
    return value is not None and (not isinstance(value, str) or "\0" in value)
