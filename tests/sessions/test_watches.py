"""The one task that looks after all attached sessions: when it asks, about what, and what it does with the answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
import pytest_asyncio

from holdfast import Session, SessionManager, StoreRefused, StoreUnavailable
from holdfast.memory import MemoryStore
from holdfast.sessions.session import Standing
from holdfast.sessions.store import Hint
from holdfast.sessions.watches import FRESH_SECONDS, POLL_SECONDS, Attachment
from holdfast.testing.clock import MovableClock
from holdfast.testing.faults import FaultyStore
from tests.support.polling import eventually


class HintingStore(FaultyStore):
    """A store whose hints a test gives, and that other servers write behind its manager's back."""

    hint: Hint
    unsure = False
    """Whether it cannot say how any session stands."""

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        known = await super().standing(ids)
        return Standing(known.now, [], [], list(ids)) if self.unsure else known

    async def listen(self, hint: Hint) -> None:
        self.hint = hint
        await super().listen(hint)

    async def end_elsewhere(self, session: Session) -> None:
        """As another server does: the manager hears nothing of it."""
        assert await self.store.end(UUID(session.id), "revoked")


@pytest.fixture
def clock() -> MovableClock:
    """The time of a test."""
    return MovableClock()


@pytest.fixture
def store() -> HintingStore:
    """The store of a test."""
    return HintingStore(MemoryStore())


@pytest_asyncio.fixture
async def sessions(store: HintingStore, clock: MovableClock) -> AsyncIterator[SessionManager]:
    """Its manager."""
    async with SessionManager(store, clock=clock, sweep_interval=None) as manager:
        yield manager


async def attached(sessions: SessionManager, clock: MovableClock) -> tuple[Session, Attachment]:
    """A session that something is attached to, looked at once."""
    new = await sessions.create_session()
    session = await sessions.get_session(new.token)
    assert session is not None
    attachment = sessions.watches.attach(session)
    await eventually(lambda: attachment.due is not None, what="the session was looked at")
    await clock.until_sleeping()
    return session, attachment


async def test_an_end_before_the_attachment_is_not_missed(sessions: SessionManager, store: HintingStore) -> None:
    """Attaching looks at once: the session may have ended since it was validated."""
    new = await sessions.create_session()
    session = await sessions.validate_session(new.token)
    assert session is not None
    await store.end_elsewhere(session)
    end = await asyncio.wait_for(sessions.watches.attach(session).end, 10)
    assert end.id == new.id


async def test_a_hint_is_looked_into(sessions: SessionManager, store: HintingStore, clock: MovableClock) -> None:
    """A true one ends the attachment; a false one, and one about strangers, does nothing."""
    session, attachment = await attached(sessions, clock)
    other, living = await attached(sessions, clock)
    store.hint([UUID(int=1), UUID(session.id), UUID(other.id)])
    await attachment_is_looked_at(store)
    assert not attachment.end.done()
    await store.end_elsewhere(session)
    store.hint([UUID(session.id)])
    assert (await asyncio.wait_for(attachment.end, 10)).reason == "revoked"
    assert not living.end.done()


async def attachment_is_looked_at(store: HintingStore) -> None:
    """Wait for the next look that begins now."""
    before = store.calls["standing"]
    await eventually(lambda: store.calls["standing"] > before, what="the store was asked")
    await asyncio.sleep(0)


async def test_without_a_hint_the_poll_finds_it(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """Every few seconds all are looked at; one that was just found live is left out."""
    session, attachment = await attached(sessions, clock)
    await store.end_elsewhere(session)
    clock.advance(POLL_SECONDS)
    assert (await asyncio.wait_for(attachment.end, 10)).id == session.id


async def test_what_was_just_seen_is_not_polled(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """A validate says as much as a look; busy sockets cost no further statements."""
    _, attachment = await attached(sessions, clock)
    asked = store.calls["standing"]
    for _ in range(3):
        clock.offset += timedelta(seconds=POLL_SECONDS)
        attachment.seen(asyncio.get_running_loop().time())
        clock.advance(0)
        await clock.until_sleeping()
    assert store.calls["standing"] == asked
    clock.advance(POLL_SECONDS)
    await eventually(lambda: store.calls["standing"] > asked, what="it was looked at once it was not seen any more")


async def test_one_statement_asks_about_many(store: HintingStore, clock: MovableClock) -> None:
    """2,500 sessions, three statements, however many sockets each one has; after the look all are confirmed."""
    async with SessionManager(store, clock=clock, sweep_interval=None) as sessions:
        tokens = [(await sessions.create_session()).token for _ in range(2500)]
        found = [await sessions.get_session(token) for token in tokens]
        attachments = [sessions.watches.attach(each) for each in found if each is not None for _ in range(2)]
        assert len(sessions.watches) == 2500
        await eventually(lambda: all(each.due for each in attachments), what="all were looked at")
        assert store.calls["standing"] == 3
        for each in attachments:
            each.close()
            each.close()
        assert len(sessions.watches) == 0


async def test_an_outage_ends_nothing(sessions: SessionManager, store: HintingStore, clock: MovableClock) -> None:
    """Whatever the store says but an answer: it is asked again a second later (F-02)."""
    session, attachment = await attached(sessions, clock)
    for error in (StoreUnavailable("a planned fault"), StoreRefused("a planned fault")):
        store.fail("standing", error=error)
        store.hint(None)
        await attachment_is_looked_at(store)
        await clock.until_sleeping()
        assert not attachment.end.done()
        clock.advance(1)
        await clock.until_sleeping()
    await store.end_elsewhere(session)
    store.hint(None)
    await asyncio.wait_for(attachment.end, 10)


async def test_an_unforeseen_error_does_not_end_the_watching(
    sessions: SessionManager, store: HintingStore, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect anywhere below is logged; sockets still hear of their ends, and nobody waits for ever (promise 6)."""
    session, attachment = await attached(sessions, clock)
    store.fail("standing", error=RuntimeError("a planned defect"))
    clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(attachment.confirm(), 10)
    assert "a planned defect" in caplog.text
    caplog.clear()
    await store.end_elsewhere(session)
    await clock.until_sleeping()
    clock.advance(1)
    await asyncio.wait_for(attachment.end, 10)


async def test_listening_begins_again_after_an_unforeseen_error(store: HintingStore, clock: MovableClock) -> None:
    """A second later, and then hints are heard."""
    async with SessionManager(store, clock=clock, sweep_interval=None) as sessions:
        store.fail("listen", error=RuntimeError("a planned defect"))
        session, attachment = await attached(sessions, clock)
        assert store.calls["listen"] == 1
        await clock.until_sleeping(2)
        clock.advance(1)
        await eventually(lambda: store.calls["listen"] == 2, what="it listens again")
        await store.end_elsewhere(session)
        store.hint([UUID(session.id)])
        await asyncio.wait_for(attachment.end, 10)


async def test_nobody_waits_for_the_others_answer(store: HintingStore, clock: MovableClock) -> None:
    """With thousands attached and the store away, whoever wants a confirmation is refused at the first failure."""
    async with SessionManager(store, clock=clock, sweep_interval=None) as sessions:
        tokens = [(await sessions.create_session()).token for _ in range(2500)]
        found = [await sessions.get_session(token) for token in tokens]
        attachments = [sessions.watches.attach(each) for each in found if each is not None]
        await eventually(lambda: all(each.due for each in attachments), what="all were looked at")
        clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
        store.fail("standing")
        answers = await asyncio.wait_for(
            asyncio.gather(*(each.confirm() for each in attachments), return_exceptions=True), 10
        )
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert store.calls["standing"] == 4


async def test_a_flood_of_hints_at_everything_is_one(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """S-73: ten thousand of them between two looks cost one look."""
    _, attachment = await attached(sessions, clock)
    asked = store.calls["standing"]
    for _ in range(10_000):
        store.hint(None)
    await attachment_is_looked_at(store)
    await clock.until_sleeping()
    assert store.calls["standing"] == asked + 1
    assert attachment.seconds_left is not None
    assert 24 * 3600 - 60 < attachment.seconds_left <= 24 * 3600


async def test_confirming_costs_nothing_while_fresh(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """And waits for a look when nobody has looked for ten seconds, as after a freeze (F-30, S-21)."""
    session, attachment = await attached(sessions, clock)
    asked = store.calls["standing"]
    await attachment.confirm()
    assert store.calls["standing"] == asked
    clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
    await asyncio.wait_for(attachment.confirm(), 10)
    assert store.calls["standing"] > asked
    clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
    await store.end_elsewhere(session)
    await asyncio.wait_for(attachment.confirm(), 10)
    assert attachment.end.done()


async def test_confirming_without_a_store_is_refused(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """Nothing is delivered on the word of a memory that is too old."""
    _, attachment = await attached(sessions, clock)
    store.fail("standing")
    clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(attachment.confirm(), 10)
    assert not attachment.end.done()


async def test_nobody_waits_for_what_is_not_looked_at(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """A socket that closes while it waits to be confirmed does not wait for ever."""
    _, attachment = await attached(sessions, clock)
    clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
    stalled = store.stall("standing")
    waiting = asyncio.create_task(attachment.confirm())
    await stalled.arrived.wait()
    again = asyncio.create_task(attachment.confirm())
    await asyncio.sleep(0)
    attachment.close()
    await asyncio.wait_for(again, 10)
    stalled.release()
    await asyncio.wait_for(waiting, 10)


async def test_what_is_left_open_is_asked_about_again(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """While the store is unsure nothing ends and nothing is confirmed; no time has to pass for another look."""
    _, attachment = await attached(sessions, clock)
    store.unsure = True
    clock.offset += timedelta(seconds=FRESH_SECONDS + 1)
    waiting = asyncio.create_task(attachment.confirm())
    asked = store.calls["standing"]
    await eventually(lambda: store.calls["standing"] > asked + 2, what="it was asked about again and again")
    assert not waiting.done()
    assert not attachment.end.done()
    store.unsure = False
    await asyncio.wait_for(waiting, 10)
    assert not attachment.end.done()


async def test_nobody_waits_for_what_was_left_open(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """A socket that closes while its session's end is open waits no longer, also during the look itself."""
    store.unsure = True
    for during in (False, True):
        new = await sessions.create_session()
        session = await sessions.get_session(new.token)
        assert session is not None
        attachment = sessions.watches.attach(session)
        waiting = asyncio.create_task(attachment.look())
        await eventually(lambda: bool(sessions.watches._unsure), what="it was left open")
        if during:
            stalled = store.stall("standing")
            await stalled.arrived.wait()
            attachment.close()
            stalled.release()
        else:
            attachment.close()
        await asyncio.wait_for(waiting, 10)


async def test_an_erased_session_was_revoked(sessions: SessionManager, store: HintingStore) -> None:
    """Of a row that another server deleted there is no trace, which is an end too (S-22)."""
    new = await sessions.create_session("u1")
    session = await sessions.get_session(new.token)
    assert session is not None
    attachment = sessions.watches.attach(session)
    await store.store.erase_user("u1")
    end = await asyncio.wait_for(attachment.end, 10)
    assert end[:3] == (new.id, "u1", "revoked")


async def test_each_session_ends_when_it_is_due(
    sessions: SessionManager, store: HintingStore, clock: MovableClock
) -> None:
    """Without traffic, and an extension made elsewhere counts (S-43, promise 4)."""
    first, ending = await attached(sessions, clock)
    second, going_on = await attached(sessions, clock)
    await store.store.extend(UUID(second.id), timedelta(hours=48))
    clock.advance(timedelta(hours=24))
    assert (await asyncio.wait_for(ending.end, 10)).reason == "expired"
    await clock.until_sleeping()
    assert not going_on.end.done()
    clock.advance(timedelta(hours=24))
    end = await asyncio.wait_for(going_on.end, 10)
    assert (end.id, end.reason) == (second.id, "expired")
    assert first.id != second.id


async def many_attached(sessions: SessionManager, number: int) -> list[Attachment]:
    """Attachments to so many sessions, each looked at."""
    made = [await sessions.get_by_id((await sessions.create_session()).id) for _ in range(number)]
    attachments = [sessions.watches.attach(each) for each in made if each is not None]
    await eventually(lambda: all(each.due is not None for each in attachments), what="all are looked at")
    return attachments


async def test_what_was_let_go_of_leaves_no_plans(sessions: SessionManager, clock: MovableClock) -> None:
    """I-12: when a session is due, long after its socket has gone, is not remembered until then."""
    for attachment in await many_attached(sessions, 3000):
        attachment.close()
    await attached(sessions, clock)
    assert len(sessions.watches._due) == 1


def moved_on(attachments: list[Attachment], due: datetime | None) -> bool:
    """Whether the look has come that puts all of them off by a minute."""
    assert due is not None
    return all(each.due is not None and each.due - due > timedelta(seconds=30) for each in attachments)


async def test_a_time_that_moves_on_leaves_no_plans(store: HintingStore, clock: MovableClock) -> None:
    """I-12: with an idle timeout each message puts off when its session is due; the times before are forgotten."""
    async with SessionManager(store, clock=clock, sweep_interval=None, idle_timeout=3600) as sessions:
        attachments = await many_attached(sessions, 500)
        for _ in range(6):
            clock.advance(60)
            for attachment in attachments:
                assert await sessions.validate_by_id(attachment.session_id)
            first = attachments[0].due
            store.hint(None)
            await eventually(partial(moved_on, attachments, first), what="all are looked at again")
        assert len(sessions.watches._due) <= 2000
        await clock.until_sleeping()
        # Past all the times before, and not past the last one, however long the machine took for all this.
        clock.advance(3570)
        await clock.until_sleeping()
        assert not any(attachment.end.done() for attachment in attachments)
        clock.advance(30)
        await asyncio.wait_for(asyncio.gather(*(attachment.end for attachment in attachments)), 10)


async def test_an_open_manager_is_needed() -> None:
    """A closed manager has nothing to attach to, and says so."""
    manager = SessionManager(MemoryStore(), sweep_interval=None)
    async with manager:
        new = await manager.create_session()
        session = await manager.get_session(new.token)
        assert session is not None
    with pytest.raises(StoreUnavailable):
        manager.watches.attach(session)
