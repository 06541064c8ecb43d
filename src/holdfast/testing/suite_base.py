"""What the suite needs of a store's author, and what its parts share."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import Store
from holdfast.sessions.tokens import TokenDigest, digest_of
from holdfast.testing.clock import MovableClock

Answer = TypeVar("Answer")

MALFORMED = [
    "",
    " ",
    "x",
    "hfs_",
    "hfs_" + "a" * 43 + "0" * 8,
    "hft_" + "a" * 43 + "0" * 8,
    "session-2d1c3b4a-5f6e-4a7b-8c9d-0e1f2a3b4c5d",
    "token\0with a NUL",
    "token\r\nSet-Cookie: stolen=1",
    "%68fs_%00",
    "tökén",
    "\N{FULLWIDTH LATIN SMALL LETTER H}fs_" + "a" * 51,
    "\ud800",
    "' OR 1=1 --",
    "a" * 1_048_576,
]
"""Texts that nobody issued: no store is asked about them."""

NOT_STRINGS: list[Any] = [None, True, 0, 1.5, b"hfs_", ["hfs_"], {"token": "hfs_"}, object()]

INJECTIONS = [
    "'; DROP TABLE sessions; --",
    '"; DELETE FROM sessions; --',
    "' OR '1'='1",
    "%",
    "_",
    "\\",
    "$1",
    ":user_id",
    "?1",
    "{0}",
    "%s",
    "u1' UNION SELECT digest FROM sessions --",
    "$$",
    "/* */",
    "<script>alert(1)</script>",
    "\N{RIGHT-TO-LEFT OVERRIDE}u1",
]
"""Texts that mean something to a database, a template or a terminal, and nothing to Holdfast."""


class SuiteBase:
    """What a subclass gives (`new_store`, and `same_store` where it can), and the fixtures of every test.

    `rounds` says how often each race is run; a soak raises it.
    """

    pytestmark = pytest.mark.asyncio

    rounds: ClassVar[int] = 20
    hints: ClassVar[bool] = True
    """Whether the store hints at other servers' ends by itself; one that does not is only asked now and then."""
    seed: ClassVar[int] = 1
    """Where the shuffling of the races begins: the same seed gives the same order of starts."""

    async def new_store(self) -> Store:
        """A fresh, empty store, not open yet. Called once or twice in a test."""
        # Not an abstract method: pytest collects and makes the class itself, and this says what is missing then.
        raise NotImplementedError("a subclass of the suite gives its store in new_store()")

    async def same_store(self) -> Store | None:
        """Another, unopened store on the data of the latest `new_store`, as a second server would have it.

        `None` where there cannot be one; then one manager plays both servers.
        """
        return None

    @pytest.fixture
    def clock(self) -> MovableClock:
        """The clock that moves the time of this test's stores."""
        return MovableClock()

    @pytest_asyncio.fixture
    async def sessions(self, clock: MovableClock) -> AsyncIterator[SessionManager]:
        """An open manager with the default policy."""
        async with self.opened(clock) as manager:
            yield manager

    @asynccontextmanager
    async def opened(self, clock: MovableClock, **settings: Any) -> AsyncIterator[SessionManager]:
        """An open manager of a fresh store. It sweeps only when told to."""
        async with SessionManager(await self.new_store(), clock=clock, sweep_interval=None, **settings) as manager:
            yield manager

    @asynccontextmanager
    async def two_servers(
        self, clock: MovableClock, **settings: Any
    ) -> AsyncIterator[tuple[SessionManager, SessionManager]]:
        """Two open managers on the same data; twice the same one where the store allows only that."""
        async with self.opened(clock, **settings) as first:
            other = await self.same_store()
            if other is None:
                yield first, first
                return
            async with SessionManager(other, clock=clock, sweep_interval=None, **settings) as second:
                yield first, second

    def shuffled(self, round_number: int, starts: Sequence[Callable[[], Awaitable[Any]]]) -> list[Awaitable[Any]]:
        """The calls of one round of a race, begun in an order that the seed decides."""
        order = list(starts)
        random.Random(self.seed * 1_000_003 + round_number).shuffle(order)  # noqa: S311 - guards nothing
        return [start() for start in order]


def known(token: str) -> TokenDigest:
    """The digest of a token that was issued."""
    digest = digest_of(token)
    assert digest is not None
    return digest


def present(answer: Answer | None) -> Answer:
    """An answer that must be there."""
    assert answer is not None
    return answer


async def soon(event: Awaitable[Answer]) -> Answer:
    """An event that is due, with a limit: a store that breaks its promise fails the test and does not hang it."""
    return await asyncio.wait_for(event, 30)


async def move_to(sessions: SessionManager, clock: MovableClock, when: datetime, seconds: float = 0) -> None:
    """Move time so that the store's clock shows `when`, and so many seconds more."""
    clock.advance(when - await sessions.ping() + timedelta(seconds=seconds))


def is_utc(value: datetime) -> bool:
    """Whether a time is aware and in UTC."""
    return value.tzinfo is not None and value.utcoffset() == timedelta(0)
