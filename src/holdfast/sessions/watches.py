"""Every session that something in this process depends on, and the moment each one ends.

A socket or a `watch` attaches to a session. From then on this process learns of its end: at once when it makes the
end itself, by a hint of the store's when another process does, by the clock when the session's time is due, and by
looking every few seconds in any case. Hints and clocks prove nothing: whatever the occasion, one statement asks the
store about all sessions in question, and only its answer ends an attachment.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import HoldfastError, StoreUnavailable
from holdfast.sessions.session import End, Session, Standing
from holdfast.sessions.store import Channel, Store

POLL_SECONDS: Final = 5.0
"""How often every attached session is looked at, whatever hints there are."""

FRESH_SECONDS: Final = 10.0
"""How long a session that was found live counts as live for what is about to be delivered (promise 6)."""

_CHUNK: Final = 1000
_RETRY_SECONDS: Final = 1.0
# After a look that left it open whether a session lives.
_UNSURE_SECONDS: Final = 0.1
# Each look says anew when a session is due, a little earlier or later for the way the answer took.
_DUE_TOLERANCE_SECONDS: Final = 0.2
# What was found live so recently the poll leaves out. An end just after that is found by the next one, six seconds on.
_JUST_SEEN_SECONDS: Final = 1.0

log = logging.getLogger("holdfast.sessions")


class _Attended:
    """One session, however many are attached to it."""

    __slots__ = ("attachments", "confirmed", "due", "due_at", "id", "user_id", "waiting")

    def __init__(self, session: Session, confirmed: float) -> None:
        self.id = UUID(session.id)
        self.user_id = session.user_id
        self.attachments: set[Attachment] = set()
        self.confirmed = confirmed
        """When, on this process's own reading of time, the last statement that found it live was sent."""
        self.due: datetime | None = None
        self.due_at: float | None = None
        """`due` on this process's own reading of time; `None` until the store has said it."""
        self.waiting: list[asyncio.Future[None]] = []


class Attachment:
    """That something depends on a session: `end` is done once the session is over."""

    __slots__ = ("_attended", "_watches", "end")

    def __init__(self, watches: "Watches", attended: _Attended) -> None:
        """Made by `Watches.attach`."""
        self._watches = watches
        self._attended = attended
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        """When and why the session ended. Await it through `asyncio.shield`: cancelling it makes it deaf.

        It fails with `StoreUnavailable` when the manager closes first.
        """

    @property
    def session_id(self) -> str:
        """Which session."""
        return str(self._attended.id)

    @property
    def due(self) -> datetime | None:
        """When the session runs out unless something happens (aware, UTC); `None` before the first look."""
        return self._attended.due

    @property
    def seconds_left(self) -> float | None:
        """How long that is from now on, as last known; `None` before the first look. Decides nothing."""
        due_at = self._attended.due_at
        return None if due_at is None else due_at - self._watches.reading()

    async def look(self) -> None:
        """Look again, together with whoever else wants to. Raises `StoreUnavailable` when the store gives no answer."""
        if not self.end.done():
            await self._watches.look_at(self._attended)

    def seen(self, asked_at: float) -> None:
        """Note that a store call made at `asked_at` (the loop's time) found the session live."""
        self._attended.confirmed = max(self._attended.confirmed, asked_at + self._watches.offset)

    async def confirm(self) -> None:
        """Return once the session is known to have been live in the last `FRESH_SECONDS`, or its end is known.

        Call it before anything is delivered. It costs nothing while this process looks regularly; one that stood
        still, or lost its store, waits here for an answer. Raises `StoreUnavailable` when the store gives none.
        """
        if not self.end.done() and self._watches.reading() - self._attended.confirmed > FRESH_SECONDS:
            await self.look()

    def close(self) -> None:
        """Depend on it no longer. Safe to repeat."""
        self._watches.detach(self, self._attended)


class Watches:
    """The attachments of one manager, and the one task that looks after them all."""

    def __init__(self, clock: Clock, store: Callable[[], Store]) -> None:
        """Prepare it; it runs from the first attachment on. `store` gives the open store, or raises."""
        self._clock = clock
        self._store = store
        self._attended: dict[UUID, _Attended] = {}
        # Hints, what is due and what is just attached go before the regular look. Dicts, for their order.
        self._urgent: dict[UUID, None] = {}
        self._regular: dict[UUID, None] = {}
        self._due: list[tuple[float, UUID]] = []
        self._all_suspected = False
        self._unsure: set[UUID] = set()
        self._next_poll = 0.0
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: Store | None = None

    @property
    def channel(self) -> Channel:
        """How ends made by other processes become known here; `idle` while nothing has attached yet."""
        return "idle" if self._listening is None else self._listening.channel

    def __len__(self) -> int:
        """How many sessions something is attached to."""
        return len(self._attended)

    def attach(self, session: Session, asked_at: float | None = None) -> Attachment:
        """Depend on a session that a store call, made at `asked_at` (the loop's time; now), has found live.

        It is looked at again at once, so that an end between that call and this one is not missed. Raises
        `StoreUnavailable` on a closed manager.
        """
        self.start()
        attended = self._attended.get(UUID(session.id))
        if attended is None:
            asked = asyncio.get_running_loop().time() if asked_at is None else asked_at
            attended = _Attended(session, asked + self.offset)
            self._attended[attended.id] = attended
        attachment = Attachment(self, attended)
        attended.attachments.add(attachment)
        self._suspect((attended.id,))
        return attachment

    def detach(self, attachment: Attachment, attended: _Attended) -> None:
        """Take back an `attach`. Safe to repeat."""
        attended.attachments.discard(attachment)
        attachment.end.cancel()
        if not attended.attachments and self._attended.get(attended.id) is attended:
            del self._attended[attended.id]
            # Nobody looks at it any more, so nobody may wait for that.
            _answer(attended, None)
            if not self._attended:
                self._woken.set()

    def over(self, ends: Iterable[End]) -> None:
        """Note that sessions are over, which the store has said."""
        for end in ends:
            if (attended := self._attended.pop(UUID(end.id), None)) is not None:
                for attachment in attended.attachments:
                    if not attachment.end.done():
                        attachment.end.set_result(end)
                _answer(attended, None)

    async def look_at(self, attended: _Attended) -> None:
        """Wait for the next look at a session. Raises `StoreUnavailable` when the store gives no answer."""
        if self._attended.get(attended.id) is attended:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            attended.waiting.append(waiting)
            self._suspect((attended.id,))
            await waiting

    async def close(self) -> None:
        """Let go of everything: whoever still waits for an end gets `StoreUnavailable`. Safe to repeat."""
        tasks, self._tasks, self._listening = self._tasks, [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        closed = StoreUnavailable("the session manager was closed")
        for attended in self._attended.values():
            _answer(attended, closed)
            for attachment in attended.attachments:
                if not attachment.end.done():
                    attachment.end.set_exception(closed)
                    # Looked at here: an attachment that nobody waits on is no forgotten failure.
                    attachment.end.exception()
        self._attended.clear()

    def start(self) -> None:
        """Listen from now on, as the first attachment does by itself. Safe to repeat.

        A server calls it so that whoever looks at `channel` need not wait for the first socket. Raises
        `StoreUnavailable` on a closed manager.
        """
        if self._tasks:
            return
        self._listening = store = self._store()
        self._next_poll = self.reading() + POLL_SECONDS
        self._tasks = [
            asyncio.create_task(self._run(), name="holdfast-watches"),
            asyncio.create_task(self._listen(store), name="holdfast-listen"),
        ]

    @property
    def offset(self) -> float:
        """Seconds between the loop's time and `reading`: what tests moved it by, and how long the machine slept.

        The loop's clock stands still while a machine is suspended, and what was confirmed before is old after it.
        """
        return self._clock.offset.total_seconds() + _suspended()

    def reading(self) -> float:
        """This process's own reading of time, on which a look is planned. It ends no session."""
        return asyncio.get_running_loop().time() + self.offset

    async def _listen(self, store: Store) -> None:
        while True:
            try:
                await store.listen(self._hinted)
            except Exception:
                log.exception("listening for other processes' ends failed; asking instead, and trying again")
            await self._clock.sleep(_RETRY_SECONDS)

    def _hinted(self, ids: Collection[UUID] | None) -> None:
        if ids is None:
            # Noted, not done: a flood of such hints costs no more than one.
            self._all_suspected = bool(self._attended)
            self._woken.set()
        else:
            self._suspect(ids)

    def _suspect(self, ids: Iterable[UUID]) -> None:
        # What nothing is attached to is nobody's business: a flood of made-up hints costs a look in a dict each.
        self._urgent.update((id, None) for id in ids if id in self._attended)
        if self._urgent:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            self._plan()
            if not self._urgent and not self._regular:
                await self._rest()
            elif not await self._look(self._taken()):
                await self._clock.sleep(_RETRY_SECONDS)

    def _plan(self) -> None:
        """Note what is due by now."""
        now = self.reading()
        if self._all_suspected:
            self._all_suspected = False
            self._urgent.update(dict.fromkeys(self._attended))
        while self._due and self._due[0][0] <= now:
            due_at, id = heapq.heappop(self._due)
            # An entry from before an extension, or for a session that nobody is attached to any more, is not current.
            if (attended := self._attended.get(id)) is not None and attended.due_at == due_at:
                attended.due_at = None
                self._urgent[id] = None
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            before = now - _JUST_SEEN_SECONDS
            self._regular.update((id, None) for id, each in self._attended.items() if each.confirmed < before)

    async def _rest(self) -> None:
        """Sleep until something is due or somebody calls."""
        sleepers: list[asyncio.Future[object]] = [asyncio.ensure_future(self._woken.wait())]
        if self._attended:
            until = min(self._next_poll, self._due[0][0]) if self._due else self._next_poll
            sleepers.append(asyncio.ensure_future(self._clock.sleep(until - self.reading())))
        try:
            await asyncio.wait(sleepers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sleeper in sleepers:
                sleeper.cancel()

    def _taken(self) -> list[_Attended]:
        """The next ones to look at, the urgent first."""
        taken: list[_Attended] = []
        for queue in (self._urgent, self._regular):
            # All at once: for each one by itself a dict would be searched past the gaps that those before have left.
            for id in list(islice(queue, _CHUNK - len(taken))):
                del queue[id]
                self._regular.pop(id, None)
                if (attended := self._attended.get(id)) is not None:
                    taken.append(attended)
        return taken

    async def _look(self, attended: list[_Attended]) -> bool:
        """Ask the store about them; whether it answered."""
        if not attended:
            return True
        asked_at, offset = self.reading(), self.offset
        waiting = [each.waiting for each in attended]
        for each in attended:
            each.waiting = []
        try:
            standing = await self._store().standing([each.id for each in attended])
            unsure = set(standing.unsure)
            self._apply(standing, attended, asked_at, asyncio.get_running_loop().time() + offset)
        except Exception as error:
            # Whatever it is, this task goes on: without it no socket would hear of its session's end.
            if isinstance(error, HoldfastError):
                log.warning("whether %d watched sessions live is not known; asking again: %s", len(attended), error)
            else:
                log.exception("whether %d watched sessions live could not be found out; asking again", len(attended))
            unavailable = error if isinstance(error, StoreUnavailable) else StoreUnavailable("the store gave no answer")
            for futures in waiting:
                _finish(futures, unavailable)
            # The others would only wait longer for the same answer.
            for each in self._attended.values():
                _answer(each, unavailable)
            self._urgent.update((each.id, None) for each in attended)
            return False
        except BaseException:
            # Cancelled: whoever waits is answered by `close`.
            for each, futures in zip(attended, waiting, strict=True):
                each.waiting += futures
            raise
        for each, futures in zip(attended, waiting, strict=True):
            if each.id in unsure and self._attended.get(each.id) is each:
                # Whoever waits wants to know whether it lives: that is for a later look to say.
                each.waiting += futures
            else:
                _finish(futures, None)
        return True

    def _apply(self, standing: Standing, asked: list[_Attended], asked_at: float, now: float) -> None:
        gone = {each.id: each for each in asked}
        for id, due in standing.live:
            attended = gone.pop(id)
            attended.confirmed = max(attended.confirmed, asked_at)
            attended.due = due
            due_at = now + (due - standing.now).total_seconds()
            if attended.due_at is None or abs(attended.due_at - due_at) > _DUE_TOLERANCE_SECONDS:
                # Its own id, not the answer's copy of it, which would stay as long as the plan: 200 bytes each.
                heapq.heappush(self._due, (due_at, attended.id))
                attended.due_at = due_at
        self._forget_old_plans()
        self.over(standing.ended)
        for end in standing.ended:
            gone.pop(UUID(end.id), None)
        for id in standing.unsure:
            gone.pop(id, None)
        self._ask_again(standing.unsure)
        # Of these the store has no trace: they were erased, with their user, or deleted long after their end.
        self.over(End(str(id), attended.user_id, "revoked", standing.now) for id, attended in gone.items())

    def _ask_again(self, unsure: Collection[UUID]) -> None:
        if unsure and not self._unsure:
            # By the loop's own clock: it is a write under way that is waited for, not the time of a session.
            asyncio.get_running_loop().call_later(_UNSURE_SECONDS, self._suspect_unsure)
        self._unsure.update(unsure)

    def _suspect_unsure(self) -> None:
        unsure, self._unsure = self._unsure, set()
        self._suspect(unsure)

    def _forget_old_plans(self) -> None:
        """Make the heap anew once most of it is about sessions that were let go of, or that are due later by now."""
        if len(self._due) > 2 * len(self._attended) + _CHUNK:
            self._due = [(each.due_at, id) for id, each in self._attended.items() if each.due_at is not None]
            heapq.heapify(self._due)


def _answer(attended: _Attended, error: StoreUnavailable | None) -> None:
    futures, attended.waiting = attended.waiting, []
    _finish(futures, error)


def _finish(futures: Iterable[asyncio.Future[None]], error: StoreUnavailable | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _suspended() -> float:
    """Seconds that the machine was suspended since it started; 0 where the system does not say."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boot_time is None else time.clock_gettime(boot_time) - time.monotonic()
