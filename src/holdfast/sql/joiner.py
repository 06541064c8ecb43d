"""Calls that arrive while a statement is under way join the next one.

One round trip and one commit then serve a hundred callers, and each still waits for its own durable answer. An idle
lane sends at once, so a lone caller waits for nobody; a busy lane collects. The batch runs in a task of its own: a
caller that is cancelled abandons its answer and nothing else, and no statement is ever interrupted by a caller.
"""

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from holdfast.sessions.errors import OutcomeUnknown, Overloaded, StoreUnavailable
from holdfast.sessions.observer import NOBODY, Observer
from holdfast.sql.failures import WORTH_REPEATING, Kind, NotDone, Unknown, is_locked_out, kind_of, pause, to_raise

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Lane = TypeVar("Lane")

_ONE_IS_BAD = (Kind.INPUT, Kind.DEFECT)
_REST_SECONDS = 0.1
# With less time left a call that met a lock is not sent again: refused now it is certainly not done, whereas at its
# deadline the answer of another attempt may be on its way.
_LAST_ATTEMPT_SECONDS = 0.1
# Up to here one commit for all is worth more than work side by side.
_NOT_WORTH_SHARING = 16

log = logging.getLogger("holdfast.sql")


class _Call(Generic[Item, Answer]):
    __slots__ = ("alone", "answer", "context", "deadline", "item", "unknown")

    def __init__(self, item: Item, answer: "asyncio.Future[Answer]", deadline: float) -> None:
        self.item = item
        self.answer = answer
        self.deadline = deadline
        self.alone = False
        """Whether it must not be sent with others: one of its batch had a bad value, or met a lock."""
        self.unknown = False
        """Whether an earlier attempt may have been done: then no later failure says that it was not."""
        self.context: object = None
        """What an observer remembers of the caller."""


class Batch(Generic[Item, Answer]):
    """Calls that are answered together. The sender begins it at the last moment before the database may act."""

    def __init__(self, calls: "list[_Call[Item, Answer]]") -> None:
        """Gather the calls; nothing is sent yet."""
        self.calls = calls
        self.sent = False
        self._lock = threading.Lock()

    def begin(self) -> list[Item]:
        """The items to send, in order: from here on their outcome depends on the database.

        Those whose callers have gone, or were told at their deadline that nothing was done, are left out for good.
        May be called from the sender's own thread.
        """
        with self._lock:
            self.sent = True
            self.calls = [call for call in self.calls if not call.answer.done()]
            return [call.item for call in self.calls]

    def fail_due(
        self,
        now: float,
        fail: "Callable[[Sequence[_Call[Item, Answer]], Callable[[], BaseException]], None]",
        not_sent: Callable[[], BaseException],
        unknown: Callable[[], BaseException],
    ) -> None:
        """Answer the calls whose deadline has passed: definitely not done, unless the batch was begun."""
        with self._lock:
            fail([call for call in self.calls if call.deadline <= now], unknown if self.sent else not_sent)


class Joiner(Generic[Lane, Item, Answer]):
    """Collects calls into batches and gives each caller its own answer."""

    def __init__(
        self,
        send: Callable[[Lane, Batch[Item, Answer]], Awaitable[Sequence[Answer | Exception]]],
        lanes: Sequence[Lane],
        *,
        where: str,
        deadline: float,
        repeatable: bool,
        largest_batch: int = 256,
        bound: int = 10_000,
        kind: str = "call",
        observer: Observer = NOBODY,
    ) -> None:
        """Prepare it.

        Args:
            send: begins and does one batch; answers in the order of the items that `begin` gave, an error in place
                of an answer for an item that failed alone, `NotDone` for one that is to be sent again in a moment.
                Raises `NotDone` or `Unknown` for the whole batch. One call per lane at a time.
            lanes: how many batches may be under way at once, and what `send` needs for each.
            where: the store's name for messages.
            deadline: seconds from a call to its answer.
            repeatable: whether a batch of unknown outcome may be sent again.
            largest_batch: items in one batch.
            bound: calls waiting or under way, beyond which a new one is refused at once.
            kind: what the observer calls these batches.
            observer: told of every batch and of every error that a caller gets.
        """
        self._send = send
        self._free = list(lanes)
        self._lanes = len(self._free)
        self._where = where
        self._deadline = deadline
        self._repeatable = repeatable
        self._largest_batch = largest_batch
        self._bound = bound
        self._kind = kind
        self._observer = observer
        self._context = observer.context if observer.traces else None
        self._queue: deque[_Call[Item, Answer]] = deque()
        self._sending: set[Batch[Item, Answer]] = set()
        self._resting: dict[_Call[Item, Answer], NotDone] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchdog: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._last_failure: BaseException | None = None

    async def call(self, item: Item) -> Answer:
        """The answer for one item. Raises what `Store` promises, by the deadline at the latest."""
        if self._waiting >= self._bound:
            overloaded = Overloaded(f"{self._bound} calls are waiting for {self._where}; try again in a moment")
            self._observer.failed(overloaded)
            raise overloaded
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        deadline = loop.time() + self._deadline
        call = _Call(item, answer, deadline)
        if self._context is not None:
            call.context = self._context()
        self._queue.append(call)
        if self._free:
            self._start(self._free.pop())
        if self._watchdog is None:
            self._watchdog = loop.call_at(deadline, self._expire)
        self._waiting += 1
        try:
            return await answer
        finally:
            self._waiting -= 1

    @property
    def queued(self) -> int:
        """How many calls wait to be sent, those that rest before another attempt included."""
        return len(self._queue) + len(self._resting)

    @property
    def in_flight(self) -> int:
        """How many batches are under way."""
        return len(self._sending)

    async def close(self) -> None:
        """Wait until every accepted call has its answer. Calls after this are the owner's mistake."""
        while self._tasks or self._resting:
            answers = [call.answer for call in self._resting]
            unfinished: set[asyncio.Future[Any]] = {*self._tasks, *(answer for answer in answers if not answer.done())}
            if not unfinished:
                break
            await asyncio.wait(unfinished, return_when=asyncio.FIRST_COMPLETED)
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _start(self, lane: Lane) -> None:
        task = asyncio.create_task(self._run(lane), name="holdfast-lane")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: Lane) -> None:
        """Send batches until nobody waits. One task per lane, alive only while there is work."""
        failures = 0
        try:
            while batch := self._next_batch():
                again = await self._serve(lane, batch)
                failures = failures + 1 if again else 0
                if again:
                    self._queue.extendleft(call for call in reversed(again) if not call.answer.done())
                    await asyncio.sleep(pause(failures))
        finally:
            self._free.append(lane)

    def _next_batch(self) -> Batch[Item, Answer] | None:
        calls: list[_Call[Item, Answer]] = []
        # Callers that are answered together come back together. If one batch took them all, the database would rest
        # while this process works, and this process while the database does: each lane takes its share instead.
        share = max(_NOT_WORTH_SHARING, -(-self._waiting // self._lanes))
        most = min(self._largest_batch, share)
        while self._queue and len(calls) < most:
            if calls and (calls[0].alone or self._queue[0].alone):
                break
            call = self._queue.popleft()
            # One whose caller went away, or whose deadline has passed, is not sent: definitely not done.
            if not call.answer.done():
                calls.append(call)
        return Batch(calls) if calls else None

    async def _serve(self, lane: Lane, batch: Batch[Item, Answer]) -> "list[_Call[Item, Answer]]":
        """Send one batch and hand out its answers; the calls that are to be sent again."""
        self._sending.add(batch)
        error: Exception | None = None
        began = asyncio.get_running_loop().time()
        waited = began - batch.calls[0].deadline + self._deadline
        try:
            answers = await self._send(lane, batch)
        except NotDone as failure:
            self._last_failure = error = failure
            if len(batch.calls) > 1 and (failure.kind in _ONE_IS_BAD or is_locked_out(failure)):
                # One bad item must fail alone, and one that others keep locked wait alone: each goes by itself now.
                for call in batch.calls:
                    call.alone = True
                return batch.calls
            if is_locked_out(failure):
                # It has kept the lane waiting once; others come first now.
                self._rest(batch.calls[0], failure, 5 * _REST_SECONDS)
                return []
            if failure.kind in WORTH_REPEATING:
                return batch.calls
            self._fail(batch.calls, partial(to_raise, failure, self._where))
            return []
        except Unknown as failure:
            self._last_failure = error = failure
            for call in batch.calls:
                call.unknown = True
            if self._repeatable:
                return batch.calls
            self._fail(batch.calls, self._unknown)
            return []
        except Exception as defect:
            # A defect in our own code: nobody may be left waiting for it, and everybody should see it.
            error = defect
            self._fail(batch.calls, partial(_itself, defect))
            return []
        finally:
            self._sending.discard(batch)
            self._observe(batch, waited, asyncio.get_running_loop().time() - began, error)
        self._last_failure = None
        for call, answer in zip(batch.calls, answers, strict=True):
            if call.answer.done():
                continue
            if not isinstance(answer, Exception):
                call.answer.set_result(answer)
            elif isinstance(answer, NotDone):
                self._rest(call, answer, _REST_SECONDS)
            else:
                self._observer.failed(answer)
                call.answer.set_exception(answer)
        return []

    def _observe(self, batch: Batch[Item, Answer], waited: float, seconds: float, error: Exception | None) -> None:
        """Tell of one batch. Its failure is worth a line too: most are repeated, and no caller hears of them."""
        calls = batch.calls
        contexts = () if self._context is None else [call.context for call in calls]
        self._observer.joined(self._kind, len(calls), max(0.0, waited), seconds, error, contexts)
        if error is not None and log.isEnabledFor(logging.DEBUG):
            # Not its text: a driver may repeat values in it.
            cause = getattr(error, "cause", error)
            log.debug("a batch of %d calls (%s) failed: %s", len(calls), self._kind, type(cause).__name__)

    def _rest(self, call: "_Call[Item, Answer]", failure: NotDone, seconds: float) -> None:
        """Send a call again a little later, without keeping the lane from others meanwhile."""
        self._resting[call] = failure
        rest = random.uniform(seconds / 2, seconds)  # noqa: S311 - jitter, no secret
        asyncio.get_running_loop().call_later(rest, self._rested, call)

    def _rested(self, call: "_Call[Item, Answer]") -> None:
        failure = self._resting.pop(call)
        if call.deadline - asyncio.get_running_loop().time() < _LAST_ATTEMPT_SECONDS:
            self._fail([call], partial(to_raise, failure, self._where))
        elif not call.answer.done():
            self._queue.appendleft(call)
            if self._free:
                self._start(self._free.pop())

    def _expire(self) -> None:
        """Answer every call whose deadline has passed, and come back when the next one's does."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for batch in self._sending:
            batch.fail_due(now, self._fail, self._not_sent, self._unknown)
        self._fail([call for call in self._queue if call.deadline <= now], self._not_sent)
        for call, failure in self._resting.items():
            if call.deadline <= now:
                self._fail([call], partial(to_raise, failure, self._where))
        everywhere = (*(each.calls for each in self._sending), self._queue, self._resting)
        remaining = [call.deadline for calls in everywhere for call in calls]
        later = [deadline for deadline in remaining if deadline > now]
        self._watchdog = loop.call_at(min(later), self._expire) if later else None

    def _fail(self, calls: "Sequence[_Call[Item, Answer]]", error: Callable[[], BaseException]) -> None:
        """Give those of the calls that still wait an error each; one that may have been done is never denied."""
        for call in calls:
            if not call.answer.done():
                given = self._unknown() if call.unknown else error()
                if isinstance(given, Exception):
                    self._observer.failed(given)
                call.answer.set_exception(given)

    def _unknown(self) -> BaseException:
        return OutcomeUnknown(f"{self._where} did not answer; the write may or may not have happened")

    def _not_sent(self) -> BaseException:
        # Another batch's bad value or defect is not what kept this call waiting.
        if self._last_failure is not None and kind_of(self._last_failure) in WORTH_REPEATING:
            return to_raise(self._last_failure, self._where)
        return StoreUnavailable(f"{self._where} was too busy to take the call within {self._deadline:g} s")


def _itself(error: BaseException) -> BaseException:
    return error
