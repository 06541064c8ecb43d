"""Revoking all sessions of a user while new ones are created on two servers (S-20)."""

import asyncio
import random
from collections.abc import Callable

import pytest

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession
from holdfast.sql import schema
from tests.concurrency.place import Place, at_most
from tests.support.postgres import PostgresCluster

ROUNDS = [
    pytest.param(100, id="100"),
    pytest.param(2_000, id="2000", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
]
CREATORS = 6


class Round:
    """One user, creators on every server, and one revocation in the middle."""

    def __init__(self, seed: int, servers: list[SessionManager], *, keeps: bool) -> None:
        self.chance = random.Random(seed)
        self.servers = servers
        self.keeps = keeps
        self.user = f"u{seed}"
        self.created: list[NewSession] = []
        self.begun_after: set[str] = set()
        self.revoked = False
        self.some_created = asyncio.Event()
        self.enough = self.chance.randrange(2, 3 * CREATORS)

    async def race(self) -> None:
        """Create and revoke at once."""
        kept = await self.chance.choice(self.servers).create_session(user_id=self.user)
        self.created.append(kept)
        self.revoker = self.chance.choice(self.servers)
        calls = [self.revoke, *(self.create,) * CREATORS]
        self.chance.shuffle(calls)
        await at_most(len(calls), calls)

    async def run(self) -> None:
        """Race, then compare who lives with what was acknowledged when."""
        await self.race()
        kept = self.created[0]

        alive = {session.id for session in await self.servers[0].list_sessions(self.user)}
        everybody = {new.id for new in self.created}
        survivors = alive - {kept.id}
        assert survivors.isdisjoint(self.before), "a session from before the revocation lives"
        assert (kept.id in alive) is self.keeps
        assert self.begun_after <= alive, "a session that was begun after the revocation is dead"
        assert self.count == len(everybody - alive)
        self.survivors = len(survivors)
        asked = [self.chance.choice(self.servers).validate_session(new.token) for new in self.created]
        opened = {session.id for session in await asyncio.gather(*asked) if session is not None}
        assert opened == alive
        assert await self.revoker.revoke_user_sessions(self.user) == len(alive)
        # The store in memory looks through all rows at every call: thousands of rounds that leave theirs never end.
        assert await self.revoker.erase_user(self.user) == len(self.created)

    async def create(self) -> None:
        """Create sessions, one after the other, until one was begun after the revocation."""
        server = self.chance.choice(self.servers)
        while True:
            # For the store in memory, which would otherwise never give the revocation a turn.
            await asyncio.sleep(0)
            after = self.revoked
            new = await server.create_session(user_id=self.user)
            self.created.append(new)
            if len(self.created) == self.enough:
                self.some_created.set()
            if after:
                self.begun_after.add(new.id)
                return

    async def revoke(self) -> None:
        """Revoke once some creates are through. Whatever is there by then, acknowledged or seen, has to go."""
        await self.some_created.wait()
        seen = await self.chance.choice(self.servers).list_sessions(self.user)
        kept = self.created[0].id
        self.before = {session.id for session in seen} | {new.id for new in self.created}
        self.before.discard(kept)
        self.count = await self.revoker.revoke_user_sessions(self.user, keep=kept if self.keeps else None)
        self.revoked = True


@pytest.mark.parametrize("keeps", [False, True], ids=["all", "keep"])
@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_revocation_covers_every_create_before_it(place: Place, rounds: int, keeps: bool) -> None:
    """What was created before a revocation began is dead, what began after it lives, on whichever server."""
    async with place.servers() as servers:
        played = [Round(seed, servers, keeps=keeps) for seed in range(rounds)]
        await at_most(8, [each.run for each in played])
        assert await servers[0].get_active_session_count() == 0
    # Else nothing raced anything, and the test would say nothing.
    assert sum(len(each.before) for each in played) > rounds
    assert sum(each.survivors for each in played) > rounds
    assert place.lost_locks() == []


async def test_every_survivor_was_committed_after_the_revocation(
    broken_postgres: Callable[..., PostgresCluster],
) -> None:
    """By the database's own record of commits: no create slips in between what a revocation sees and its commit."""
    server = await asyncio.to_thread(broken_postgres, 18, {"track_commit_timestamp": "on"})
    place = Place("postgresql", server.address())
    await schema.upgrade(place.address)
    async with place.servers() as servers:
        played = [Round(seed, servers, keeps=False) for seed in range(100)]
        await at_most(2, [each.race for each in played])
    rows = server.execute(
        "SELECT bool_and(lived.at > revoked.at), count(*)"
        " FROM (SELECT user_id, pg_xact_commit_timestamp(xmin) AS at FROM sessions WHERE ended_at IS NULL) AS lived"
        " JOIN (SELECT user_id, max(pg_xact_commit_timestamp(xmin)) AS at FROM sessions WHERE ended_at IS NOT NULL"
        " GROUP BY user_id) AS revoked USING (user_id)"
    )
    assert rows[0][0] is True
    assert rows[0][1] > len(played)
