"""The joiner alone, with a sender that does as it is told: no database, and no waiting but for deadlines."""

import asyncio
from collections.abc import Sequence

import pytest

from holdfast import InvalidArgument, OutcomeUnknown, Overloaded, StoreUnavailable
from holdfast.sql import joiner as module
from holdfast.sql.failures import Kind, NotDone, Unknown
from holdfast.sql.joiner import Batch, Joiner
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch

LONG = 30.0
SHORT = 0.05


class Refusal(Exception):
    """A driver's error with a state."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Sender:
    """Records the batches; each waits for `answer` or `fail` unless it is `automatic`."""

    def __init__(self, *, automatic: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.automatic = automatic
        self.waiting: list[asyncio.Future[None]] = []
        self.most_at_once = 0
        self.at_once = 0
        self.bad: set[int] = set()
        self.again: set[int] = set()
        self.begins = True

    async def __call__(self, lane: int, batch: Batch[int, str]) -> Sequence[str | Exception]:
        items = batch.begin() if self.begins else [call.item for call in batch.calls]
        self.batches.append(items)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if not self.automatic:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.waiting.append(turn)
                await turn
        finally:
            self.at_once -= 1
        if self.bad & set(items):
            raise NotDone(Kind.INPUT, Refusal("22021"))
        if repeated := self.again & set(items):
            self.again -= repeated
            raise NotDone(Kind.RETRY, Refusal("40P01"))
        return [f"answer {item}" for item in items]

    def answer(self) -> None:
        """Let the oldest batch under way succeed."""
        self.waiting.pop(0).set_result(None)

    def fail(self, error: Exception) -> None:
        """Let the oldest batch under way fail."""
        self.waiting.pop(0).set_exception(error)

    async def under_way(self, batches: int = 1) -> None:
        """Wait until so many batches are under way."""
        await eventually(lambda: len(self.waiting) >= batches, what=f"{batches} batches are under way")


def joiner(
    sender: Sender,
    *,
    lanes: int = 1,
    deadline: float = LONG,
    repeatable: bool = False,
    largest: int = 256,
    bound: int = 10_000,
) -> Joiner[int, int, str]:
    return Joiner(
        sender,
        range(lanes),
        where="the fake",
        deadline=deadline,
        repeatable=repeatable,
        largest_batch=largest,
        bound=bound,
    )


def calls(made: Joiner[int, int, str], items: Sequence[int]) -> "list[asyncio.Task[str]]":
    return [asyncio.create_task(made.call(item)) for item in items]


def pass_deadline(made: Joiner[int, int, str]) -> None:
    """Let the deadline of every call pass now, however long the machine took to come here."""
    now = asyncio.get_running_loop().time()
    for each in (*(call for batch in made._sending for call in batch.calls), *made._queue, *made._resting):
        each.deadline = now
    made._expire()


async def test_an_idle_lane_sends_at_once() -> None:
    """A lone caller waits for nobody: its item is sent in the next turn of the loop."""
    sender = Sender()
    made = joiner(sender)
    [task] = calls(made, [1])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sender.batches == [[1]]
    sender.answer()
    assert await task == "answer 1"


async def test_a_busy_lane_collects_in_order() -> None:
    """Calls that arrive while a batch is under way join the next one, first in first out."""
    sender = Sender()
    made = joiner(sender, largest=4)
    tasks = calls(made, [0])
    await sender.under_way()
    tasks += calls(made, [1, 2, 3, 4, 5, 6])
    await asyncio.sleep(0)
    sender.answer()
    await sender.under_way()
    sender.answer()
    await sender.under_way()
    sender.answer()
    assert await asyncio.gather(*tasks) == [f"answer {n}" for n in range(7)]
    assert sender.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_no_more_batches_under_way_than_lanes() -> None:
    """Two lanes are two batches; a thousand callers do not make it three."""
    sender = Sender(automatic=True)
    made = joiner(sender, lanes=2, largest=10)
    answers = await asyncio.gather(*calls(made, range(1000)))
    assert answers == [f"answer {n}" for n in range(1000)]
    assert sender.most_at_once <= 2


async def test_each_lane_takes_its_share() -> None:
    """Joiner: many callers are parted among the lanes, so that one lane works while another waits; few are not."""
    sender = Sender(automatic=True)
    made = joiner(sender, lanes=2)
    for callers, sizes in ((100, [50, 50]), (16, [16]), (20, [16, 4])):
        sender.batches.clear()
        await asyncio.gather(*calls(made, range(callers)))
        assert [len(batch) for batch in sender.batches] == sizes
    await made.close()


async def test_beyond_the_bound_a_call_is_refused_at_once() -> None:
    """Overloaded at once, and room again as soon as an answer is there."""
    sender = Sender()
    made = joiner(sender, bound=3, largest=1)
    tasks = calls(made, [1, 2, 3])
    await sender.under_way()
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await made.call(4)
    sender.automatic = True
    sender.answer()
    assert await tasks[0] == "answer 1"
    assert await made.call(5) == "answer 5"
    await asyncio.gather(*tasks)
    assert 4 not in {item for batch in sender.batches for item in batch}


async def test_cancelled_callers_free_their_place() -> None:
    """The bound counts who waits; a caller that went away does not, and is not sent."""
    sender = Sender()
    made = joiner(sender, bound=3, largest=1)
    tasks = calls(made, [1, 2, 3])
    await sender.under_way()
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks[1:])
    tasks += calls(made, [4])
    await asyncio.sleep(0)
    sender.answer()
    await sender.under_way()
    sender.answer()
    assert await tasks[3] == "answer 4"
    assert sender.batches == [[1], [4]]


async def test_a_cancelled_caller_of_a_batch_under_way_disturbs_nobody() -> None:
    """The batch goes on; the others of it get their own answers."""
    sender = Sender()
    made = joiner(sender)
    tasks = calls(made, [0])
    await sender.under_way()
    tasks += calls(made, [1, 2, 3])
    await asyncio.sleep(0)
    sender.answer()
    await sender.under_way()
    tasks[2].cancel()
    await asyncio.wait([tasks[2]])
    sender.answer()
    assert list(await asyncio.gather(tasks[1], tasks[3])) == ["answer 1", "answer 3"]


async def test_past_its_deadline_an_item_is_not_sent() -> None:
    """Waiting behind a batch that hangs is a definite failure, and the item is never sent after it."""
    sender = Sender()
    made = joiner(sender, deadline=SHORT)
    tasks = calls(made, [1])
    await sender.under_way()
    tasks += calls(made, [2])
    await asyncio.wait(tasks)
    with pytest.raises(OutcomeUnknown):
        await tasks[0]
    with pytest.raises(StoreUnavailable) as caught:
        await tasks[1]
    assert not isinstance(caught.value, OutcomeUnknown)
    sender.answer()
    await made.close()
    assert sender.batches == [[1]]


async def test_a_batch_that_was_not_begun_is_definitely_not_done() -> None:
    """While a sender still connects, the deadline means: nothing was done."""
    sender = Sender()
    sender.begins = False
    made = joiner(sender, deadline=SHORT)
    [task] = calls(made, [1])
    await asyncio.wait([task])
    error = task.exception()
    assert isinstance(error, StoreUnavailable)
    assert not isinstance(error, OutcomeUnknown)
    sender.answer()
    await made.close()


async def test_the_deadline_holds_for_calls_one_after_another() -> None:
    """The watchdog comes back for each: none waits for another's deadline."""
    sender = Sender()
    made = joiner(sender, deadline=SHORT)
    tasks = calls(made, [1])
    await sender.under_way()
    loop = asyncio.get_running_loop()
    for item in range(2, 8):
        begun, watch = loop.time(), Stopwatch()
        with pytest.raises(StoreUnavailable):
            await made.call(item)
        assert loop.time() - begun >= SHORT * 0.9
        assert watch.seconds < SHORT + 1.0
    sender.answer()
    await asyncio.wait(tasks)
    await made.close()


async def test_a_definite_failure_goes_back_to_the_front() -> None:
    """Rolled back for certain: the same items are sent again, before those that came later."""
    sender = Sender()
    made = joiner(sender, largest=2)
    tasks = calls(made, [1, 2])
    await asyncio.sleep(0)
    await sender.under_way()
    tasks += calls(made, [3, 4])
    await asyncio.sleep(0)
    sender.fail(NotDone(Kind.RETRY, Refusal("40001")))
    await sender.under_way()
    assert sender.batches == [[1, 2], [1, 2]]
    sender.automatic = True
    sender.answer()
    assert await asyncio.gather(*tasks) == [f"answer {n}" for n in (1, 2, 3, 4)]


async def test_an_unknown_batch_is_not_sent_again() -> None:
    """A count must stay exact: every caller of the batch is told, and the next batch goes its way."""
    sender = Sender()
    made = joiner(sender)
    tasks = calls(made, [1])
    await sender.under_way()
    tasks += calls(made, [2])
    await asyncio.sleep(0)
    sender.fail(Unknown(ConnectionResetError()))
    await sender.under_way()
    sender.answer()
    assert await tasks[1] == "answer 2"
    with pytest.raises(OutcomeUnknown):
        await tasks[0]
    assert sender.batches == [[1], [2]]


async def test_a_repeatable_unknown_batch_is_sent_again() -> None:
    """Where the sender finds out what an earlier attempt did, nobody hears of it."""
    sender = Sender()
    made = joiner(sender, repeatable=True)
    [task] = calls(made, [1])
    await sender.under_way()
    sender.fail(Unknown(ConnectionResetError()))
    await sender.under_way()
    sender.answer()
    assert await task == "answer 1"
    assert sender.batches == [[1], [1]]


async def test_what_may_have_been_done_is_never_denied() -> None:
    """I-2: unknown once, a later definite failure or the deadline does not make it "nothing was done"."""
    sender = Sender()
    made = joiner(sender, repeatable=True)
    [task] = calls(made, [1])
    await sender.under_way()
    sender.fail(Unknown(ConnectionResetError()))
    await sender.under_way()
    sender.fail(NotDone(Kind.FULL, Refusal("53100")))
    with pytest.raises(OutcomeUnknown):
        await task
    made = joiner(sender, repeatable=True)
    sender.begins = False
    [task] = calls(made, [2])
    await sender.under_way()
    sender.fail(Unknown(ConnectionResetError()))
    await sender.under_way()
    pass_deadline(made)
    with pytest.raises(OutcomeUnknown):
        await task
    sender.answer()
    await made.close()


async def test_one_bad_item_fails_alone() -> None:
    """A value that the database refuses: each item of its batch is sent by itself, and only that one fails."""
    sender = Sender()
    made = joiner(sender)
    tasks = calls(made, [0])
    await sender.under_way()
    tasks += calls(made, [1, 2, 3])
    await asyncio.sleep(0)
    sender.bad = {2}
    sender.automatic = True
    sender.answer()
    assert list(await asyncio.gather(tasks[0], tasks[1], tasks[3])) == ["answer 0", "answer 1", "answer 3"]
    with pytest.raises(InvalidArgument):
        await tasks[2]
    assert sender.batches == [[0], [1, 2, 3], [1], [2], [3]]


async def test_a_single_that_is_to_be_sent_again_is() -> None:
    """While items run by themselves one of them deadlocks: it is sent again and nothing is lost or sent twice."""
    sender = Sender()
    made = joiner(sender)
    tasks = calls(made, [0])
    await sender.under_way()
    tasks += calls(made, [1, 2, 3])
    await asyncio.sleep(0)
    sender.automatic = True
    sender.bad = {2}
    sender.again = {1, 3}
    sender.answer()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:2] + answers[3:] == ["answer 0", "answer 1", "answer 3"]
    assert isinstance(answers[2], InvalidArgument)
    assert sender.batches[2:] == [[1], [1], [2], [3], [3]]


async def test_items_after_a_bad_one_keep_their_deadline_definite() -> None:
    """A batch was refused for a value: an item that then waits for its turn alone was definitely not done."""
    sender = Sender()
    made = joiner(sender)
    tasks = calls(made, [0])
    await sender.under_way()
    tasks += calls(made, [1, 2])
    await asyncio.sleep(0)
    sender.answer()
    await sender.under_way()
    sender.fail(NotDone(Kind.INPUT, Refusal("22021")))
    await sender.under_way()
    assert sender.batches == [[0], [1, 2], [1]]
    pass_deadline(made)
    await asyncio.wait(tasks)
    assert isinstance(tasks[1].exception(), OutcomeUnknown)
    assert type(tasks[2].exception()) is StoreUnavailable
    sender.answer()
    await made.close()


async def test_a_defect_of_the_sender_reaches_everybody() -> None:
    """Nobody is left waiting for a batch that our own code broke."""
    sender = Sender()
    made = joiner(sender)
    tasks = calls(made, [1])
    await sender.under_way()
    sender.fail(KeyError("a defect"))
    with pytest.raises(KeyError):
        await tasks[0]
    sender.automatic = True
    assert await made.call(2) == "answer 2"


async def test_closing_waits_for_what_was_accepted() -> None:
    """close() returns when every accepted call has its answer, and no task is left."""
    sender = Sender()
    made = joiner(sender, largest=1)
    tasks = calls(made, [1, 2])
    await sender.under_way()
    closing = asyncio.create_task(made.close())
    sender.answer()
    await sender.under_way()
    assert not closing.done()
    sender.answer()
    await closing
    assert [task.result() for task in tasks] == ["answer 1", "answer 2"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "holdfast-lane"]


async def test_a_steady_stream_passes_nobody_over() -> None:
    """Fairness: under a flood, nobody is answered after somebody who came a batch later."""
    sender = Sender(automatic=True)
    made = joiner(sender, lanes=2, largest=5)
    order: list[int] = []

    async def one(item: int) -> None:
        await made.call(item)
        order.append(item)

    await asyncio.gather(*(one(item) for item in range(500)))
    assert all(abs(place - item) <= 10 for place, item in enumerate(order))


async def test_answers_belong_to_their_askers_under_cancellation() -> None:
    """I-15, S-80: callers leave at random; whoever stays gets the answer to its own item."""
    sender = Sender(automatic=True)
    made = joiner(sender, lanes=2, largest=7)
    tasks = calls(made, range(1000))
    for item in range(0, 1000, 3):
        await asyncio.sleep(0)
        tasks[item].cancel()
    await asyncio.wait(tasks)
    for item, task in enumerate(tasks):
        assert task.cancelled() or task.result() == f"answer {item}"
    await made.close()


async def test_an_item_that_others_keep_locked_lets_others_pass() -> None:
    """F-05: each item of a batch that met a lock goes by itself; the locked one comes back later, within its time."""
    sender = Sender()
    made = joiner(sender, deadline=2.0)
    tasks = calls(made, [0])
    await sender.under_way()
    tasks += calls(made, [1, 2, 3])
    await asyncio.sleep(0)
    sender.answer()
    await sender.under_way()
    sender.fail(NotDone(Kind.RETRY, Refusal("55P03")))
    await sender.under_way()
    sender.fail(NotDone(Kind.RETRY, Refusal("55P03")))
    sender.automatic = True
    assert list(await asyncio.gather(*tasks)) == [f"answer {n}" for n in range(4)]
    assert sender.batches == [[0], [1, 2, 3], [1], [2], [3], [1]]
    await made.close()


async def test_a_resting_call_has_its_deadline_and_closing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-14: while it rests, a call that is to be sent again is answered by its deadline: certainly not done."""
    monkeypatch.setattr(module, "_REST_SECONDS", LONG)
    sender = Sender()
    made = joiner(sender)
    [task] = calls(made, [1])
    await sender.under_way()
    sender.fail(NotDone(Kind.RETRY, Refusal("55P03")))
    await eventually(lambda: bool(made._resting), what="the call rests")
    closing = asyncio.create_task(made.close())
    await asyncio.sleep(0)
    assert not closing.done()
    pass_deadline(made)
    await closing
    assert type(task.exception()) is StoreUnavailable
    assert sender.batches == [[1]]


async def test_shortly_before_its_deadline_a_call_that_met_a_lock_is_not_sent_again() -> None:
    """F-05: an attempt whose answer may come too late would make unknown what is certainly not done."""
    sent: list[list[int]] = []

    async def locked(_: int, batch: Batch[int, str]) -> Sequence[str | Exception]:
        sent.append(batch.begin())
        return [NotDone(Kind.RETRY, Refusal("55P03"))]

    # It rests for at least half of the last tenth of a second in which nothing is sent.
    made: Joiner[int, int, str] = Joiner(locked, [0], where="the fake", deadline=0.14, repeatable=True)
    with pytest.raises(StoreUnavailable, match="another transaction keeps a row"):
        await made.call(1)
    assert sent == [[1]]
    await made.close()
