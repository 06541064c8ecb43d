"""A store's methods about all sessions of a user, and about the cap on them."""

from abc import abstractmethod
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from holdfast.sessions.errors import TooManySessions
from holdfast.sessions.policy import MAX_CAP
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record
from holdfast.sql.store_base import StoreBase, ends_of


class UsersPart(StoreBase):
    """The part about users."""

    @abstractmethod
    def _lock_user(self, connection: Connection, user_id: str) -> None:
        """Wait for the user's creates under way, and keep later ones waiting until the transaction ends."""

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        cap, evicts = self._policy.max_sessions or MAX_CAP, self._policy.at_cap == "evict"
        user: dict[str, Any] = {"user": record.user_id}
        evicted: dict[str, End] = {}

        def writing(connection: Connection, _: bool) -> Created:
            self._lock_user(connection, str(record.user_id))
            row = connection.execute(self._sql.created, self._bind(ids=[record.id])).one_or_none()
            if row is None:
                evicted.clear()
                if evicts:
                    ended = connection.execute(self._sql.evict, self._bind(**user, room=cap - 1)).all()
                    evicted.update((end.id, end) for end in ends_of(ended))
                elif (live := connection.scalars(self._sql.count_user, self._bind(**user)).one()) >= cap:
                    raise TooManySessions(f"the user has {live} live sessions, and the cap is {cap}")
                values = self._bind(**user, new_id=record.id, new_digest=record.digest, text=record.metadata)
                row = connection.execute(self._sql.create_locked, values).one()
            # Found there, it is an earlier attempt of this call, and so is what that one evicted.
            return Created(Record._make(row), list(evicted.values()))

        return await self._write_durably(writing)

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`."""
        statement = self._sql.list_live(of_user=user_id is not None, after=after is not None)
        values = self._bind(limit=limit)
        if user_id is not None:
            values["user"] = user_id
        if after is not None:
            values["after"] = after
        rows = await self._read(lambda connection: connection.execute(statement, values).all())
        return [Record._make(row) for row in rows]

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        statement = self._sql.end_user(keep=keep is not None)
        values = self._bind(user=user_id, reason=reason)
        if keep is not None:
            values["keep"] = keep

        def ending(connection: Connection) -> list[End]:
            self._lock_user(connection, user_id)
            return ends_of(connection.execute(statement, values).all())

        return await self._end_many(ending)

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        statement, imported, values = self._sql.erase_user, self._sql.erase_imported, self._bind(user=user_id)
        most = 0

        def writing(connection: Connection, again: bool) -> int:
            nonlocal most
            self._lock_user(connection, user_id)
            count = len(connection.execute(statement, values).all())
            connection.execute(imported, {"user": user_id})
            most = max(count, most) if again else count
            return most

        return await self._write_durably(writing)
