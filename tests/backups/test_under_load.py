"""A backup that is taken while others write holds everything that was acknowledged before it began."""

import asyncio
import time
from collections import Counter
from itertools import cycle

from holdfast import SessionManager
from tests.backups.conftest import Place

VALIDATING, CREATING = 40, 10
BEFORE = 2000


class Writers:
    """Callers that validate and create without a break, and what was acknowledged to them."""

    def __init__(self, sessions: SessionManager, tokens: list[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.created: list[str] = []
        self.done = 0
        self.begun = time.monotonic()
        self._sessions = sessions
        self._stopping = False
        self._enough = asyncio.Event()
        mine = [tokens[each::VALIDATING] for each in range(VALIDATING)]
        self._tasks = [asyncio.create_task(self._validate(each)) for each in mine]
        self._tasks += [asyncio.create_task(self._create()) for _ in range(CREATING)]

    async def warm(self) -> None:
        """Wait until there is something to lose."""
        await self._enough.wait()

    async def stop(self) -> None:
        """Let every call end."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _validate(self, tokens: list[str]) -> None:
        for token in cycle(tokens):
            if self._stopping:
                return
            assert await self._sessions.validate_session(token) is not None
            self.counts[token] += 1
            self._count()

    async def _create(self) -> None:
        while not self._stopping:
            self.created.append((await self._sessions.create_session("new", {"filler": "x" * 200})).token)
            self._count()

    def _count(self) -> None:
        self.done += 1
        if self.done == BEFORE:
            self._enough.set()


async def test_every_acknowledged_write_is_in_it(place: Place) -> None:
    """Issue 4: after the store is lost, what was acknowledged before the backup began is all there again."""
    async with place.manager() as sessions:
        tokens = [each.token for each in await asyncio.gather(*(sessions.create_session("u") for _ in range(400)))]
        writers = Writers(sessions, tokens)
        await writers.warm()
        counts, created, done, begun = Counter(writers.counts), list(writers.created), writers.done, time.monotonic()
        before = done / (begun - writers.begun)
        made = await place.backup()
        rate = (writers.done - done) / (time.monotonic() - begun)
        await writers.stop()
    # What matters is that they go on, though the backup takes a part of the machine.
    assert rate > before / 20
    place.lose()
    await place.restore(made.path, keep_sessions_live=True)
    async with place.manager() as sessions:
        for token in tokens:
            session = await sessions.get_session(token)
            assert session is not None
            assert counts[token] <= session.request_count <= writers.counts[token]
        for token in created:
            assert await sessions.get_session(token)


async def test_writers_go_on_through_a_restore(place: Place) -> None:
    """Issue 4: servers that are open see a restore as one change; nobody gets an error, and no count is lost."""
    async with place.manager() as sessions:
        tokens = [each.token for each in await asyncio.gather(*(sessions.create_session("u") for _ in range(400)))]
        made = await place.backup()
        writers = Writers(sessions, tokens)
        await writers.warm()
        await place.restore(made.path)
        await writers.stop()
        for token in tokens:
            session = await sessions.get_session(token)
            assert session is not None
            assert session.request_count == writers.counts[token]
        for token in writers.created:
            assert await sessions.get_session(token)
