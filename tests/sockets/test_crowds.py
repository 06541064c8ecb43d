"""Thousands of sockets: all alive at once, and each one closed as it should be while many sessions end."""

import asyncio
import random
import sqlite3
import time
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from holdfast.server.handles import room_for_sockets
from holdfast.sessions.manager import SessionManager
from tests.concurrency.place import Place, at_most
from tests.sockets.crowd import Crowd, Member
from tests.sockets.fates import SESSIONS_EACH, Fates
from tests.sockets.server import PATIENT, Server, running
from tests.support.admin import execute
from tests.support.kept import FRESH
from tests.support.polling import eventually

BOUND_SECONDS = 1.0
"""Promise 6, on both databases, the push channel being there."""


def port_of(server: Server) -> int:
    """Where it listens."""
    return int(server.address.rpartition(":")[2])


async def members_of(manager: SessionManager, user: str, number: int) -> list[Member]:
    """So many sessions of a user, the oldest first."""
    made = [await manager.create_session(user) for _ in range(number)]
    return [Member(new.id, new.token, user) for new in made]


def counts_in(place: Place) -> dict[str, tuple[int, str | None]]:
    """`request_count` and end of every session in the store, the ended ones too, by id."""
    statement = "SELECT id, request_count, end_reason FROM sessions"
    if place.kind == "sqlite":
        connection = sqlite3.connect(place.address.removeprefix("sqlite:///"))
        rows = [list(row) for row in connection.execute(statement)]
        connection.close()
    else:
        rows = execute(place.address, statement)
    return {str(id if isinstance(id, UUID) else UUID(id)): (count, reason) for id, count, reason in rows}


@pytest.mark.parametrize(
    "number", [1_000, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)], id="10000")]
)
async def test_thousands_of_sockets_live_in_one_process(process_place: Place, tmp_path: Path, number: int) -> None:
    """Promise 6: all of a server's thousands of sockets answer, and all hear of the restart when it is told to stop."""
    assert room_for_sockets(number) == number, "the hard limit on open files is too low here"
    crowd = Crowd(random.Random(1))
    settings = {
        **PATIENT,
        "DATABASE_URL": process_place.address,
        "HOLDFAST_DRAIN_SECONDS": "2",
        "HOLDFAST_DRAIN_DELAY_SECONDS": "0",
    }
    async with process_place.manager() as manager, running(tmp_path, "server", settings) as server:
        members: list[Member] = []

        async def make(user: int) -> None:
            members.extend(await members_of(manager, f"user-{user}", 1))

        await at_most(50, [partial(make, user) for user in range(number)])
        await crowd.open([(member, 0) for member in members], [port_of(server)])
        scraped = (await server.get("/metrics")).text
        assert f"holdfast_sockets_open {float(number)}" in scraped
        for talker in crowd.talkers:
            crowd.say(talker)
            if talker.socket.number % 100 == 0:
                # Not a test of bursts: let the answers come in between.
                await asyncio.sleep(0)
        await eventually(lambda: all(not each.unanswered for each in crowd.talkers), what="all answer", deadline=60)
        assert crowd.judge(BOUND_SECONDS) == []
        server.signal()
        await eventually(lambda: not any(each.open for each in crowd.talkers), what="all are closed", deadline=60)
        assert {(each.socket.code, each.socket.reason) for each in crowd.talkers} == {(1012, "restart")}
        assert await server.ended(60) == 0
        assert "Traceback" not in server.written()
    stored = counts_in(process_place)
    # The handshake and one message.
    assert {stored[member.id] for member in members} == {(2, None)}


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(1_000, 5.0), pytest.param(1_000, 60.0, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
async def test_busy_sockets_while_sessions_end_at_random(
    process_place: Place, tmp_path: Path, number: int, seconds: float
) -> None:
    """Promises 5 and 6, S-44: on two servers sockets talk while sessions end; every close right, every count exact."""
    chance = random.Random(3)
    settings = {
        **PATIENT,
        "DATABASE_URL": process_place.address,
        "HOLDFAST_MAX_SESSIONS_PER_USER": str(SESSIONS_EACH),
        "HOLDFAST_AT_CAP": "evict",
    }
    async with (
        process_place.manager() as manager,
        running(tmp_path, "one", settings) as one,
        running(tmp_path, "two", settings) as two,
        httpx2.AsyncClient(base_url=one.address, timeout=30, limits=FRESH) as by_one,
        httpx2.AsyncClient(base_url=two.address, timeout=30, limits=FRESH) as by_two,
    ):
        crowd = Crowd(chance, [one.process.pid, two.process.pid])
        fates = Fates((by_one, by_two), chance)
        names = list(fates.all)
        users: dict[str, tuple[str, list[Member]]] = {}
        opening: list[tuple[Member, int]] = []

        async def arrive(user: str, fate: str) -> None:
            members = await members_of(manager, user, SESSIONS_EACH)
            users[user] = (fate, members)
            opening.extend(places_of(members, chance))

        # One user in seven is left for those whose sessions expire.
        regular = max(len(names), number * 6 // 7 // (SESSIONS_EACH + SESSIONS_EACH // 2))
        await at_most(50, [partial(arrive, f"user-{each}", names[each % len(names)]) for each in range(regular)])
        began = time.monotonic()
        await crowd.open(opening, (port_of(one), port_of(two)))
        # Six times as many are open by now. The rest, which are made first, must be open before the first one expires.
        spare = max(5.0, 2 * (time.monotonic() - began))
        instants = [spare + seconds * step / 10 for step in range(1, 11)]
        expiring = await members_that_expire(process_place, instants, number - len(opening))
        await crowd.open([(member, each % 2) for each, member in enumerate(expiring)], (port_of(one), port_of(two)))

        talking = asyncio.create_task(crowd.talk(per_second=number * 0.5))
        await fates.meet(users, seconds)
        last = max(member.over_at for member in expiring if member.over_at is not None)
        await eventually(lambda: time.time() > last, what="the last session has expired", deadline=seconds + 60)
        await eventually(lambda: not any(each.open for each in crowd.leaving), what="all sockets are closed")
        talking.cancel()
        for talker in crowd.staying:
            crowd.say(talker)
        await eventually(lambda: all(not each.unanswered for each in crowd.staying), what="the others answer")
        assert crowd.judge(BOUND_SECONDS) == []
        assert len(crowd.talkers) == number
        assert len(crowd.leaving) > number // 4
        assert len(crowd.staying) > number // 4
        for server in (one, two):
            assert "Traceback" not in server.written()
        stored = counts_in(process_place)

    for member in dict.fromkeys(talker.member for talker in crowd.talkers):
        count, reason = stored[member.id]
        # What has expired is not marked before the sweep.
        assert reason in {member.reason, None} if member.reason == "expired" else reason == member.reason
        assert member.acknowledged <= count <= member.acknowledged + member.unanswered
        if member.reason is None:
            assert (member.unanswered, count) == (0, member.acknowledged)


def places_of(members: list[Member], chance: random.Random) -> list[tuple[Member, int]]:
    """A socket for each session at one of two servers, and for every third session one at both."""
    homes = [(member, chance.randrange(2)) for member in members]
    member, home = chance.choice(homes)
    return [*homes, (member, 1 - home)]


async def members_that_expire(place: Place, instants: list[float], number: int) -> list[Member]:
    """So many sessions, some of each kind, that expire after so many seconds."""
    members: list[Member] = []
    for step, lifetime in enumerate(instants):
        async with place.manager(session_ttl_hours=lifetime / 3600) as manager:
            users = [f"expiring-{each}" for each in range(step, number, len(instants))]
            made = await asyncio.gather(*map(manager.create_session, users))
        for user, new in zip(users, made, strict=True):
            members.append(Member(new.id, new.token, user))
            members[-1].over("expired", new.expires_at.timestamp())
    return members
