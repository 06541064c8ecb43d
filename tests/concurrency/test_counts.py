"""Counts are exact, whatever happens at once (promise 5)."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession
from tests.concurrency.peer import journalled, peer
from tests.concurrency.place import Place, at_most

HOT = 200


async def test_two_processes_count_every_validate(process_place: Place, tmp_path: Path) -> None:
    """10,000 validates from two processes at once: each row counts exactly the answers that were given for it."""
    journals = [tmp_path / f"journal-{number}" for number in range(2)]
    async with process_place.servers(1) as (sessions,), peer(process_place) as one, peer(process_place) as other:
        made = [await sessions.create_session() for _ in range(20)]
        tokens = [new.token for new in made]
        answered = await asyncio.gather(
            *(
                process.ask("hammer", tokens, 5_000, 100, number, str(journal))
                for number, (process, journal) in enumerate(zip((one, other), journals, strict=True))
            )
        )
        assert answered == [5_000, 5_000]
        acknowledged, largest = journalled(journals)
        shown = {session.id: session.request_count for session in await sessions.list_sessions()}
        assert shown == acknowledged
        assert shown == largest
        assert acknowledged.total() == 10_000
    assert process_place.lost_locks() == []


@pytest.mark.parametrize("grace", [0, 30], ids=["no-grace", "grace"])
async def test_rotations_lose_no_count(shared_place: Place, grace: int) -> None:
    """Validates and rotations of 200 hot rows on two servers: no deadlock, and each row's count is exact."""
    async with shared_place.servers(rotation_grace=grace) as servers:
        made = await asyncio.gather(*(servers[0].create_session() for _ in range(HOT)))
        token_of = {new.id: new.token for new in made}
        chance = random.Random(1)
        acknowledged: Counter[str] = Counter()
        rotated: Counter[str] = Counter()
        rotating: Counter[str] = Counter()

        async def validate() -> None:
            id = chance.choice(made).id
            replaced = rotated[id]
            session = await chance.choice(servers).validate_session(token_of[id])
            if session is not None:
                assert session.id == id
                acknowledged[id] += 1
                return
            # Rotations that were acknowledged meanwhile or may be: none of them is no reason to refuse the present
            # token, and one is none within the grace.
            assert rotated[id] + rotating[id] - replaced > (1 if grace else 0)

        async def rotate() -> None:
            id = chance.choice(made).id
            rotating[id] += 1
            successor = await chance.choice(servers).rotate_session(token_of[id])
            rotating[id] -= 1
            if successor is not None:
                token_of[id] = successor.token
                rotated[id] += 1

        calls = [validate] * 12_000 + [rotate] * 1_000
        chance.shuffle(calls)
        # Twice as many callers as rows: two batches then always have rows in common, and would deadlock at once if
        # they did not lock them in one order.
        await at_most(2 * HOT, calls)
        shown = {session.id: session.request_count for session in await servers[1].list_sessions(limit=1_000)}
        assert shown == {new.id: acknowledged[new.id] for new in made}
        assert acknowledged.total() > 4_000
        assert rotated.total() > 300
        for token in token_of.values():
            assert await servers[0].get_session(token)
    assert shared_place.lost_locks() == []


async def test_the_number_of_live_sessions_is_exact(place: Place) -> None:
    """While sessions come and go on two servers, every count lies between what was certain and what was possible."""
    async with place.servers() as servers:
        chance = random.Random(1)
        ledger = Ledger()

        async def come_and_go(server: SessionManager) -> None:
            for _ in range(60):
                if ledger.live and chance.random() < 0.4:
                    await ledger.delete(chance.choice(servers), ledger.live.pop(chance.randrange(len(ledger.live))))
                else:
                    await ledger.create(server)

        async def count(server: SessionManager) -> None:
            while ledger.working:
                # For the store in memory, which would otherwise never give the others a turn.
                await asyncio.sleep(0)
                # What was acknowledged before the call is certain; what was begun by its end is possible.
                created, deleted = ledger.created, ledger.deleted
                counted = await server.get_active_session_count()
                assert created - ledger.deletes_begun <= counted <= ledger.creates_begun - deleted

        async def work() -> None:
            await asyncio.gather(*(come_and_go(servers[number % 2]) for number in range(20)))
            ledger.working = False

        await asyncio.gather(work(), *(count(server) for server in servers))
        for server in servers:
            assert await server.get_active_session_count() == ledger.created - ledger.deleted == len(ledger.live)


class Ledger:
    """What was asked of the store, and what it acknowledged."""

    def __init__(self) -> None:
        self.live: list[NewSession] = []
        self.working = True
        self.creates_begun = self.created = self.deletes_begun = self.deleted = 0

    async def create(self, server: SessionManager) -> None:
        """Create one session."""
        self.creates_begun += 1
        self.live.append(await server.create_session())
        self.created += 1

    async def delete(self, server: SessionManager, new: NewSession) -> None:
        """End one that nobody else ends."""
        self.deletes_begun += 1
        assert await server.delete_session(new.token) is True
        self.deleted += 1
