"""Two stores as one: whichever holds the authority answers, and a move between them is followed within a call.

A write that meets a store which does not accept it was not made (`AuthorityMoved`), so it is made again where the
authority has gone. A read counts only if, after it, the store it was read from has not been left since it was known
to serve. Neither the manager nor a socket notices more than a short wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from holdfast.move.following_opening import Stale
from holdfast.move.following_switch import Finish, Switch
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import AuthorityMoved, StoreRefused
from holdfast.sessions.observer import NOBODY, Load, Observed, Observer
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.statistics import Statistical, Statistics
from holdfast.sessions.store import Channel, Held, Hint, Key, MovableStore
from holdfast.sessions.sweeper import TakesClearTokens
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.keeping import KeepsTokens

Answer = TypeVar("Answer")


class FollowingStore:
    """The store contract over the two stores of a move.

    Opening needs one of them to hold the authority; the other may be away, and is opened once it answers. A call that
    waits for a move to decide may take the deadline twice: once for waiting, once at the store that has it.
    """

    def __init__(
        self,
        sqlite: MovableStore,
        postgresql: MovableStore,
        *,
        preferred: str | None,
        deadline: float,
        finish: Finish | None = None,
        stale: Stale | None = None,
        missing: Callable[[], bool] | None = None,
    ) -> None:
        """Prepare it; connects to nothing yet.

        Args:
            sqlite: the SQLite half, made with `StoreOptions(follows=True)`.
            postgresql: the PostgreSQL half, made alike.
            preferred: `sqlite` or `postgresql`, which one serves as long as no move has taken place.
            deadline: seconds a call waits for a move to decide.
            finish: called again and again while a move does not decide; `None` leaves it to movers.
            stale: asked before SQLite serves, from the start or from a file that appears later, although a move has
                taken place.
            missing: whether there is no SQLite file. Opening would make one, which must not be in the place of one
                that was lost. `None` means that nobody can say: then none that was replaced is opened anew either.
        """
        self._switch = Switch(
            sqlite,
            postgresql,
            preferred=preferred,
            deadline=deadline,
            finish=finish,
            stale=stale,
            missing=missing,
        )
        self._deadline = deadline
        self._observer = NOBODY

    @property
    def observer(self) -> Observer:
        """See `Observed`. It hears of what both stores do."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer) -> None:
        self._observer = observer
        for store in self._switch.stores:
            if isinstance(store, Observed):
                store.observer = observer

    def load(self) -> Load | None:
        """See `Observed`: of the store that serves."""
        store = self._switch.current.store
        return store.load() if isinstance(store, Observed) else None

    async def statistics(self, hours: int, top: int) -> Statistics:
        """See `Statistical`: of the store that serves. Raises `StoreRefused` for one that has none, a legacy file."""
        store = self._switch.current.store
        if not isinstance(store, Statistical):
            raise StoreRefused("this store keeps no statistics; they come with a native one")
        return await store.statistics(hours, top)

    @property
    def clear_tokens(self) -> bool:
        """Whether either store keeps tokens in clear: then digests have them beside them, whichever store serves."""
        return any(getattr(store, "clear_tokens", False) for store in self._switch.stores)

    @property
    def has_clear_tokens(self) -> bool:
        """Whether imported sessions live in either store: a move carries them from the one to the other."""
        return any(isinstance(store, TakesClearTokens) and store.has_clear_tokens for store in self._switch.stores)

    async def look_for_clear_tokens(self) -> None:
        """See `TakesClearTokens`: in the store that serves."""
        store = self._switch.current.store
        if isinstance(store, TakesClearTokens):
            await store.look_for_clear_tokens()

    @property
    def serving(self) -> str:
        """Which store serves this process: `sqlite` or `postgresql`."""
        return self._switch.current.name

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`. Waits up to the deadline for a move that is deciding.

        Raises `StoreRefused` when both claim the authority, `StoreUnavailable` when the one that holds it is away.
        """
        await self._switch.open(policy, clock)

    async def close(self) -> None:
        """See `Store`."""
        await self._switch.close()

    async def _write(self, call: Callable[[MovableStore], Awaitable[Answer]]) -> Answer:
        limit = asyncio.get_running_loop().time() + self._deadline
        while True:
            self._switch.refuse_conflict()
            side = self._switch.current
            try:
                return await call(side.store)
            except AuthorityMoved:
                if asyncio.get_running_loop().time() > limit:
                    raise
            await self._switch.found(side)

    async def _write_kept(self, digest: bytes, call: Callable[[MovableStore], Awaitable[Answer]]) -> Answer:
        """Make a write that brings a new token, which PostgreSQL may have been asked to keep for the way back.

        It is kept before it can open anything: a roll-back finds it then, or a token of no session, which does no harm.
        """

        async def kept(store: MovableStore) -> Answer:
            if isinstance(store, KeepsTokens):
                await store.keep_token(digest)
            return await call(store)

        return await self._write(kept if self.clear_tokens else call)

    async def _read(self, call: Callable[[MovableStore], Awaitable[Answer]]) -> Answer:
        limit = asyncio.get_running_loop().time() + self._deadline
        while True:
            self._switch.refuse_conflict()
            side, epoch = self._switch.current, self._switch.current.epoch
            answer = await call(side.store)
            # Asked after the reading: what was read came before anything that another store took over.
            held = await side.store.authority()
            if held.authority != "there":
                if held.epoch == epoch:
                    return answer
                # It may have been left before the reading, and entered again after it with what others wrote.
                side.epoch = held.epoch
                continue
            if asyncio.get_running_loop().time() > limit:
                raise AuthorityMoved("another store holds the authority, and cannot be reached; nothing was read")
            await self._switch.found(side)

    async def authority(self) -> Held:
        """The authority of the store that serves."""
        return await self._switch.current.store.authority()

    # The contract. Reads first, then writes, then what the process hears.

    async def ping(self) -> datetime:
        """See `Store`."""
        # On PostgreSQL it writes nothing, so that no fence would say that the store was left.
        return await self._read(lambda _: self._write(lambda store: store.ping()))

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._read(lambda store: store.get(key))

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        return await self._read(lambda store: store.why(digest))

    async def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        return await self._read(lambda store: store.end_of(id))

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        return await self._read(lambda store: store.standing(ids))

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        return await self._read(lambda store: store.replayed(digest))

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`."""
        return await self._read(lambda store: store.list_live(user_id, limit, after))

    async def count_live(self) -> int:
        """See `Store`."""
        return await self._read(lambda store: store.count_live())

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        return await self._read(lambda store: store.untold(limit, older_than))

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        return await self._write_kept(record.digest, lambda store: store.create(record))

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        return await self._write_kept(record.digest, lambda store: store.create_capped(record))

    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._write(lambda store: store.touch(key))

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        return await self._write(lambda store: store.extend(key, by))

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        return await self._write_kept(successor, lambda store: store.rotate(digest, successor))

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        return await self._write(lambda store: store.set_metadata(key, version, metadata))

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        return await self._write(lambda store: store.end(key, reason))

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return await self._write(lambda store: store.end_user(user_id, keep, reason))

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        return await self._write(lambda store: store.erase_user(user_id))

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        return await self._write(lambda store: store.create_ticket(digest, session, origin))

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        return await self._write(lambda store: store.take_ticket(digest, origin))

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        return await self._write(lambda store: store.mark_expired(limit))

    async def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        await self._write(lambda store: store.told(ids))

    async def expect_hooks(self) -> None:
        """See `Store`."""
        await self._write(lambda store: store.expect_hooks())

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        return await self._write(lambda store: store.delete_ended(limit, older_than, reasons))

    @property
    def channel(self) -> Channel:
        """See `Store`."""
        return self._switch.current.store.channel

    async def listen(self, hint: Hint) -> None:
        """See `Store`. After a move any session may have ended unheard, so it hints at all."""
        while True:
            moved = self._switch.moved
            listening = asyncio.ensure_future(self._switch.current.store.listen(hint))
            waiting = asyncio.ensure_future(moved.wait())
            try:
                await asyncio.wait((listening, waiting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (listening, waiting):
                    task.cancel()
                await asyncio.gather(listening, waiting, return_exceptions=True)
            hint(None)
