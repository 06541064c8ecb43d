"""Promise 7: callers that go away at any point break nothing and leak nothing."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable

from holdfast import NewSession, SessionManager
from tests.faults.bench import Truth, opened, options, settled

# What fails here has to be the cancelled calls alone, on a busy machine too: nobody waits two seconds for a connection.
PATIENT = options(deadline=30.0, connections=12)


def calls_of(manager: SessionManager, new: NewSession, user: str) -> list[Awaitable[object]]:
    """One call of every operation."""
    return [
        manager.validate_session(new.token),
        manager.create_session(user),
        manager.get_session(new.token),
        manager.get_by_id(new.id),
        manager.extend_session(new.token, 30),
        manager.update_metadata(new.token, {"n": 1}),
        manager.create_ticket(new.token),
        manager.list_sessions(user),
        manager.get_active_session_count(),
        manager.why_ended(new.token),
        manager.sweep(),
        manager.cleanup_expired_sessions(),
        manager.revoke_user_sessions("nobody"),
        manager.erase_user("nobody"),
        manager.ping(),
        manager.store.expect_hooks(),
        manager.rotate_session(new.token),
        manager.delete_session(new.token),
    ]


async def test_cancelled_at_any_point_nothing_leaks(database: str, facts: Truth) -> None:
    """Promise 7, I-12: every operation, cancelled after a random number of turns, 20 rounds of 18 calls."""
    chance = random.Random(20)
    async with opened(database, options=PATIENT) as manager:
        for round_number in range(20):
            new = await manager.create_session("u1")
            tasks = [asyncio.ensure_future(call) for call in calls_of(manager, new, "u1")]
            chance.shuffle(tasks)
            for task in tasks:
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                if chance.random() < 0.7:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() or task.exception() is None for task in tasks), round_number
        await settled(manager, facts)
        new = await manager.create_session()
        assert await manager.validate_session(new.token) is not None


async def test_every_answer_belongs_to_its_asker(database: str, facts: Truth) -> None:
    """I-15, S-80, promise 5: 200 tasks with a session each, half of their calls cancelled; no answer is another's."""
    chance = random.Random(80)
    acknowledged: Counter[str] = Counter()
    perhaps: Counter[str] = Counter()
    async with opened(database, options=PATIENT) as manager:
        made = await asyncio.gather(*(manager.create_session(f"user {n}", {"mine": n}) for n in range(200)))

        async def asker(number: int, new: NewSession) -> None:
            for _ in range(4):
                for call in (manager.validate_session, manager.get_session):
                    task = asyncio.ensure_future(call(new.token))
                    if chance.random() < 0.5:
                        for _ in range(chance.randrange(20)):
                            await asyncio.sleep(0)
                        task.cancel()
                    await asyncio.wait([task])
                    counts = call == manager.validate_session
                    if task.cancelled():
                        perhaps[new.id] += counts
                        continue
                    session = task.result()
                    assert session is not None
                    assert (session.id, session.user_id) == (new.id, f"user {number}")
                    assert session.metadata == {"mine": number}
                    acknowledged[new.id] += counts

        await asyncio.gather(*(asker(number, new) for number, new in enumerate(made)))
        await settled(manager, facts)
        for new in made:
            row = await facts.by_id(new.id)
            assert row is not None
            assert acknowledged[new.id] <= row["request_count"] <= acknowledged[new.id] + perhaps[new.id]
        assert sum(perhaps.values()) > 100
