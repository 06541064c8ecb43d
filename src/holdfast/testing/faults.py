"""A store that fails on demand, for testing what an application does then."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import OutcomeUnknown, StoreUnavailable
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.store import Channel, Hint, Key, Store
from holdfast.sessions.tokens import TokenDigest

Answer = TypeVar("Answer")


class Fault:
    """One planned fault: what happens to one call of one method.

    `arrived` is set when the call has come. A stalled call then waits for `release`.
    """

    def __init__(self, before: BaseException | None, after: BaseException | None, *, stalls: bool) -> None:
        """Plan what is raised before the store is asked and after it answered; `None` for nothing."""
        self.arrived = asyncio.Event()
        self._released = asyncio.Event()
        self._before = before
        self._after = after
        if not stalls:
            self._released.set()

    def release(self) -> None:
        """Let a stalled call go on to the store. Safe to repeat, and before the call has come."""
        self._released.set()

    async def around(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make the call, with the fault."""
        self.arrived.set()
        await self._released.wait()
        if self._before is not None:
            raise self._before
        answer = await call()
        if self._after is not None:
            raise self._after
        return answer


class FaultyStore:
    """A store around another one. It counts the calls of each method, and fails those that a test names.

    store = FaultyStore(MemoryStore())
    store.lose("touch")                  # the next touch is done, and its caller gets OutcomeUnknown
    store.fail("create", at=3)           # the third create from now is not done: StoreUnavailable
    fault = store.stall("get")           # the next get waits for fault.release()
    """

    def __init__(self, store: Store) -> None:
        """Put it around a store that is not open yet."""
        self.store = store
        self.calls: Counter[str] = Counter()
        """How often each method was called, by its name in `Store`."""
        self._plan: dict[tuple[str, int], Fault] = {}

    @property
    def clear_tokens(self) -> bool:
        """Whether the store keeps tokens in clear."""
        return getattr(self.store, "clear_tokens", False)

    def fail(self, method: str, at: int = 1, error: BaseException | None = None) -> Fault:
        """Refuse the call number `at` of a method, counted from now: the store is not asked."""
        return self._planned(method, at, Fault(error or StoreUnavailable("a planned fault"), None, stalls=False))

    def lose(self, method: str, at: int = 1, error: BaseException | None = None) -> Fault:
        """Lose the answer to the call number `at` of a method, counted from now: the store did it."""
        return self._planned(method, at, Fault(None, error or OutcomeUnknown("a planned fault"), stalls=False))

    def stall(self, method: str, at: int = 1) -> Fault:
        """Hold the call number `at` of a method, counted from now, until the fault is released."""
        return self._planned(method, at, Fault(None, None, stalls=True))

    def _planned(self, method: str, at: int, fault: Fault) -> Fault:
        if not callable(getattr(Store, method, None)):
            raise ValueError(f"a store has no method {method!r}")
        self._plan[method, self.calls[method] + at] = fault
        return fault

    async def _call(self, method: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        self.calls[method] += 1
        fault = self._plan.pop((method, self.calls[method]), None)
        return await (call() if fault is None else fault.around(call))

    # The contract, each method by the same way

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`."""
        await self._call("open", lambda: self.store.open(policy, clock))

    async def close(self) -> None:
        """See `Store`."""
        await self._call("close", self.store.close)

    async def ping(self) -> datetime:
        """See `Store`."""
        return await self._call("ping", self.store.ping)

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        return await self._call("create", lambda: self.store.create(record))

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        return await self._call("create_capped", lambda: self.store.create_capped(record))

    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._call("touch", lambda: self.store.touch(key))

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._call("get", lambda: self.store.get(key))

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        return await self._call("extend", lambda: self.store.extend(key, by))

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        return await self._call("rotate", lambda: self.store.rotate(digest, successor))

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        return await self._call("set_metadata", lambda: self.store.set_metadata(key, version, metadata))

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        return await self._call("end", lambda: self.store.end(key, reason))

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return await self._call("end_user", lambda: self.store.end_user(user_id, keep, reason))

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        return await self._call("erase_user", lambda: self.store.erase_user(user_id))

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        return await self._call("why", lambda: self.store.why(digest))

    async def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        return await self._call("end_of", lambda: self.store.end_of(id))

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        return await self._call("standing", lambda: self.store.standing(ids))

    @property
    def channel(self) -> Channel:
        """See `Store`."""
        return self.store.channel

    async def listen(self, hint: Hint) -> None:
        """See `Store`."""
        await self._call("listen", lambda: self.store.listen(hint))

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        return await self._call("replayed", lambda: self.store.replayed(digest))

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`."""
        return await self._call("list_live", lambda: self.store.list_live(user_id, limit, after))

    async def count_live(self) -> int:
        """See `Store`."""
        return await self._call("count_live", self.store.count_live)

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        return await self._call("create_ticket", lambda: self.store.create_ticket(digest, session, origin))

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        return await self._call("take_ticket", lambda: self.store.take_ticket(digest, origin))

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        return await self._call("mark_expired", lambda: self.store.mark_expired(limit))

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        return await self._call("untold", lambda: self.store.untold(limit, older_than))

    async def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        await self._call("told", lambda: self.store.told(ids))

    async def expect_hooks(self) -> None:
        """See `Store`."""
        await self._call("expect_hooks", self.store.expect_hooks)

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        return await self._call("delete_ended", lambda: self.store.delete_ended(limit, older_than, reasons))
