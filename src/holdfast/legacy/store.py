"""The store contract on a legacy file, served in place beside the application that made it.

Its table stays as it is, in its own form and journal mode; see `docs/how-to/serve-a-legacy-file.md` for what that
costs.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

from holdfast.legacy.hints import LegacyHints
from holdfast.legacy.statistics import Tally
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.statistics import Statistics, refuse_extent
from holdfast.sessions.store import Key
from holdfast.sessions.tokens import TokenDigest

_PAGE: Final = 500


class LegacyStore(LegacyHints):
    """The store contract on a SQLite file whose `sessions` table is an application's own."""

    clear_tokens = True
    """Its tokens are the keys of its rows, so the manager hands them over beside their digests."""

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.create(record))

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.create_capped(record))

    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""
        return cast("Record | None", await self._call(key))

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.get(key))

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.extend(key, by))

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.rotate(digest, successor))

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.set_metadata(key, version, metadata))

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.end(key, reason))

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.end_user(user_id, keep, reason))

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.erase_user(user_id))

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.why(digest))

    async def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.end_of(id))

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.standing(ids))

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.replayed(digest))

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`. Looks in several short steps, so that the old application need not wait for a long one."""
        live: list[Record] = []
        place = after
        while True:
            found, place = await self._page(user_id, place)
            live += found
            if len(live) >= limit or place is None:
                return live[:limit]

    async def _page(self, user_id: str | None, place: UUID | None) -> tuple[list[Record], UUID | None]:
        return await self._look(lambda sessions: sessions.page(user_id, _PAGE, place))

    async def count_live(self) -> int:
        """See `Store`. What takes long is counted in short steps: then sessions that come or go meanwhile may count."""
        count = await self._look(lambda sessions: sessions.count_live())
        if count is not None:
            return count
        count, place = 0, None
        while True:
            found, place = await self._page(None, place)
            count += len(found)
            if place is None:
                return count

    async def statistics(self, hours: int, top: int) -> Statistics:
        """See `Statistical`. Reads in short steps, as lists do; how long ended sessions lasted is not known here."""
        refuse_extent(hours, top)
        tally = Tally(await self.ping(), hours)
        place: UUID | None = None
        while True:
            found, place = await self._kept(place)
            for record, live in found:
                tally.add(record, live=live)
            if place is None:
                break
        tally.add_ended(await self._look(lambda sessions: sessions.ends()))
        return tally.result(top)

    async def _kept(self, place: UUID | None) -> tuple[list[tuple[Record, bool]], UUID | None]:
        return await self._look(lambda sessions: sessions.kept(_PAGE, place))

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.create_ticket(digest, session, origin))

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.take_ticket(digest, origin))

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.mark_expired(min(limit, _PAGE)))

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.untold(limit, older_than))

    async def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        await self._do(lambda sessions: sessions.told(ids))

    async def expect_hooks(self) -> None:
        """See `Store`."""
        await self._do(lambda sessions: sessions.expect_hooks())

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.delete_ended(limit, older_than, reasons))
