"""The periodic job: mark what has expired, tell the hook what nobody has told it, delete what was kept long enough.

Any number of servers may sweep one store: batches are small, and each skips the rows that another one holds.
Expiry itself does not depend on it; a session that has run out opens nothing, swept or not.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol, runtime_checkable

from holdfast.sessions.background import Background
from holdfast.sessions.clock import Clock
from holdfast.sessions.ends import Ends
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.observer import Observer
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import END_REASONS, EndReason
from holdfast.sessions.store import Store

BATCH = 250
# What one pass spends on calling the hook again for what is left over. A hook that hangs must not hold up deletion.
_LEFTOVER_SECONDS = 30.0
# Between two full batches, so that other work gets its turn on the database.
_PAUSE_SECONDS = 0.01
# An end this young is still being told by the process that made it.
_TELL_AFTER = timedelta(seconds=10)

log = logging.getLogger("holdfast.sessions")


class Swept(NamedTuple):
    """What one pass did."""

    marked: int
    """How many sessions had run out, and were marked as ended."""
    deleted: int
    """How many ended ones were deleted, their retention being over."""


@runtime_checkable
class TakesClearTokens(Protocol):
    """A store that may hold imported sessions, whose tokens have another form than ours. Most hold none."""

    @property
    def has_clear_tokens(self) -> bool:
        """Whether there was one when it was opened, or last looked."""

    async def look_for_clear_tokens(self) -> None:
        """Find out whether there are such sessions now."""


class SweptManager(Protocol):
    """What a sweep needs of its manager."""

    policy: Policy
    clock: Clock
    ends: Ends
    observer: Observer

    @property
    def store(self) -> Store: ...


async def sweep(manager: SweptManager) -> Swept:
    """One pass over everything that is due now. Raises `StoreUnavailable`; the next pass goes on from there."""
    # Asked for once: a manager that closes meanwhile lets the store say what it still does.
    store = manager.store
    marked = await _mark_expired(manager, store)
    # What this process is just telling is not left over.
    await manager.ends.finish()
    await _tell_leftovers(manager, store, _TELL_AFTER)
    deleted = await _delete_ended(store, manager.policy.retention, END_REASONS)
    if isinstance(store, TakesClearTokens):
        await store.look_for_clear_tokens()
    return Swept(marked, deleted)


async def clean_up(manager: SweptManager) -> int:
    """Remove every expired session now, whatever its retention; how many that were.

    While hooks are expected (another process's will do), an end that none has heard of stays.
    """
    store = manager.store
    await _mark_expired(manager, store)
    await manager.ends.finish()
    await _tell_leftovers(manager, store, timedelta(0))
    return await _delete_ended(store, timedelta(0), ("expired", "idle"))


class Sweeper:
    """Runs a pass every `interval` seconds, a little earlier or later each time so that servers spread out."""

    def __init__(self, manager: SweptManager, interval: float) -> None:
        """Prepare it; `start` makes it run."""
        self._manager = manager
        self._interval = interval
        self._sweeping = Background(self._run, "holdfast-sweep")

    def start(self) -> None:
        """Begin in the running loop. The first pass comes after a part of the interval."""
        self._sweeping.start()

    async def stop(self) -> None:
        """Stop, in the middle of a pass if need be: the next pass of any server goes on. Safe to repeat."""
        await self._sweeping.stop()

    async def _run(self) -> None:
        wait = self._interval * random.random()  # noqa: S311 - spreads servers out, guards nothing
        while True:
            await self._manager.clock.sleep(wait)
            wait = self._interval * random.uniform(0.8, 1.2)  # noqa: S311 - as above
            try:
                if self._manager.ends.hook is not None:
                    await self._manager.store.expect_hooks()
                await self._pass()
            except HoldfastError as error:
                self._manager.observer.sweep_failed()
                log.warning("the sweep stopped early and tries again: %s", error)
            except Exception:
                self._manager.observer.sweep_failed()
                log.exception("the sweep failed and tries again")

    async def _pass(self) -> None:
        time = asyncio.get_running_loop().time
        began = time()
        marked, deleted = await sweep(self._manager)
        seconds = time() - began
        self._manager.observer.swept(marked, deleted, seconds)
        log.log(
            logging.INFO if marked or deleted else logging.DEBUG,
            "swept: %d sessions had run out, %d were deleted, in %.3f s",
            *(marked, deleted, seconds),
            extra={"marked": marked, "deleted": deleted},
        )


async def _mark_expired(manager: SweptManager, store: Store) -> int:
    async def batch() -> int:
        # In a task of the ends' own: a sweep that is stopped here must not keep to itself what it marked.
        return len(await manager.ends.made(store, lambda: store.mark_expired(BATCH)))

    return await _in_batches(batch)


async def _tell_leftovers(manager: SweptManager, store: Store, older_than: timedelta) -> None:
    """Tell one batch of what nobody was told; first what did not fail here before, so that no failure starves others.

    The store answers the oldest first, and what failed stays the oldest. So the page is larger by as many as failed,
    which the ends remember up to a bound (`ends.MAX_FAILED`): if more than that fail for good, younger leftovers wait
    until some of them are told or deleted. To be free of the bound `untold` would have to take a place to go on from.
    """
    ends = manager.ends
    if ends.hook is None:
        return
    page = await store.untold(BATCH + len(ends.failed), older_than)
    # Of those that failed, the one whose last failure is longest ago comes first.
    turns = {id: turn for turn, id in enumerate(ends.failed, start=1)}
    page.sort(key=lambda end: turns.get(end.id, 0))
    # One batch a pass: a hook that keeps failing must not hold up the sweep.
    await ends.tell(store, page[:BATCH], within=_LEFTOVER_SECONDS)


async def _delete_ended(store: Store, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
    return await _in_batches(lambda: store.delete_ended(BATCH, older_than, reasons))


async def _in_batches(batch: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while (done := await batch()) > 0:
        total += done
        if done == BATCH:
            await asyncio.sleep(_PAUSE_SECONDS)
    return total
