"""The installed server on two stores goes with a move: the same process, the same sockets, and every count exact."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection

from holdfast import NewSession
from holdfast.api.answers import MoveAnswer, StatsAnswer
from holdfast.move.conditions import Wishes
from holdfast.move.state import MoveRefused
from tests.api.api import APPLICATION, OPERATOR, bearer
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.move.bench import Place
from tests.move.legacy_place import LegacyPlace
from tests.sockets.server import Server, running
from tests.support.kept import KEPT
from tests.support.polling import eventually

__all__ = ["berlin"]
_SOCKETS = 6
# A server goes on with a decision whose mover does not renew its lease: here it lives, however slow the machine may be.
_LEASE = timedelta(minutes=5)


class Traffic:
    """What clients were acknowledged, by the id of the session, until told to stop."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.created: set[str] = set()
        self.ended: set[str] = set()
        self.stopped = False

    def goes_on(self, than: int) -> bool:
        """Whether more was acknowledged than so much."""
        return self.counts.total() > than

    async def talk(self, client: ClientConnection, id: str) -> None:
        """Messages over one socket, each of which is a validate."""
        while not self.stopped:
            await client.send("hello")
            assert await client.recv() == "hello"
            self.counts[id] += 1
            # The pace of a client.
            await asyncio.sleep(random.uniform(0, 0.01))

    async def ask(self, client: httpx2.AsyncClient) -> None:
        """Sessions begun, validated and ended over HTTP."""
        while not self.stopped:
            made = await client.post("sessions", json={"user_id": "u2"}, headers=bearer(APPLICATION))
            assert made.status_code == 201, made.text
            id, token = made.json()["id"], made.json()["token"]
            self.created.add(id)
            for _ in range(3):
                body = {"token": token}
                found = await client.post("sessions/validate", json=body, headers=bearer(APPLICATION))
                assert found.status_code == 200, found.text
                self.counts[id] += 1
            if len(self.created) % 2:
                assert (await client.delete("sessions/current", headers=bearer(token))).status_code == 204
                self.ended.add(id)
            # As above.
            await asyncio.sleep(random.uniform(0, 0.02))


@asynccontextmanager
async def serving(tmp_path: Path, place: Place, **settings: str) -> AsyncIterator[Server]:
    """The installed server, on both stores."""
    named = {"DATABASE_URL": place.address, "HOLDFAST_SQLITE_PATH": str(place.path), "SESSION_DB_TYPE": "sqlite"}
    async with running(tmp_path, "server", named | settings) as server:
        yield server


async def told(server: Server, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `/readyz` says of the move, once that is what is wanted."""
    said: list[dict[str, Any]] = []

    async def found() -> bool:
        said.append((await server.get("/readyz")).json()["move"])
        return wanted(said[-1])

    await eventually(found, what="the server tells of it")
    return said[-1]


async def _changed(change: Callable[[], Awaitable[None]]) -> None:
    """Do it, again when the machine was too slow for the budget: as an operator would."""
    for _ in range(5):
        try:
            return await change()
        except MoveRefused as refusal:
            if "no decision" not in str(refusal):
                raise
    raise AssertionError("the machine is too slow for a cut-over")


def _at(store: str, move: dict[str, Any]) -> bool:
    """Whether the server serves from the store that has the authority, and it is this one."""
    return move["serving"] == move["authority"] == store and move["waiting"] is False


async def stats(server: Server) -> MoveAnswer:
    """How the move stands, for the operator."""
    answered = await server.get("/api/v1/stats", headers=bearer(OPERATOR))
    move = StatsAnswer.model_validate_json(answered.text).move
    assert move is not None
    return move


async def test_a_server_moves_under_traffic_and_tells_of_it(place: Place, tmp_path: Path) -> None:
    """Move: forth, back and forth again while sockets and requests go on; nothing fails, closes or is lost."""
    traffic = Traffic()
    async with place.manager() as manager:
        sessions: list[NewSession] = [await manager.create_session("u1") for _ in range(_SOCKETS)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(tmp_path, place))
        before = await told(server, lambda move: move["phase"] == "none")
        assert (before["serving"], before["authority"], before["epoch"]) == ("sqlite", None, 0)
        asking = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"{server.address}/api/v1/", timeout=30, limits=KEPT)
        )
        sockets = [await stack.enter_async_context(server.connect(token=each.token)) for each in sessions]
        mover = await stack.enter_async_context(place.mover(lease=_LEASE))
        going = [
            asyncio.create_task(traffic.talk(client, each.id)) for client, each in zip(sockets, sessions, strict=True)
        ]
        going += [asyncio.create_task(traffic.ask(asking)) for _ in range(2)]
        await mover.start()
        following = await told(server, lambda move: move["phase"] == "following")
        assert (following["serving"], following["authority"]) == ("sqlite", "sqlite")
        for serving_now, change in (
            ("postgresql", mover.cut_over),
            ("sqlite", mover.roll_back),
            ("postgresql", mover.cut_over),
        ):
            done = traffic.counts.total()
            await _changed(change)
            await told(server, partial(_at, serving_now))
            await eventually(partial(traffic.goes_on, done + 50), what="traffic goes on")
        traffic.stopped = True
        await asyncio.gather(*going)
        said = await stats(server)
        assert (said.serving, said.phase, said.away) == ("postgresql", "switched", [])
        assert said.epoch is not None
        assert said.epoch > following["epoch"]
        scraped = (await server.get("/metrics")).text
        assert 'holdfast_move_authority{store="postgresql"} 1.0' in scraped
        assert 'holdfast_move_authority{store="sqlite"} 0.0' in scraped
        assert 'holdfast_move_serving{store="postgresql"} 1.0' in scraped
        assert 'holdfast_move_phase{phase="switched"} 1.0' in scraped
        assert f"holdfast_sockets_open {float(_SOCKETS)}" in scraped
        await mover.complete()
        over = await told(server, lambda move: move["phase"] == "none")
        assert (over["serving"], over["authority"]) == ("postgresql", "postgresql")
        for client in sockets:
            await client.send("still")
            assert await client.recv() == "still"
        for each in sessions:
            # Besides the messages that were counted: the handshake and the last word.
            traffic.counts[each.id] += 2
    found = await place.in_postgresql("SELECT id, request_count, ended_at FROM sessions")
    assert {row["id"].hex for row in found} >= {id.replace("-", "") for id in traffic.created}
    assert {str(row["id"]): row["request_count"] for row in found} == dict(traffic.counts)
    assert {str(row["id"]) for row in found if row["ended_at"] is not None} == traffic.ended


async def test_a_server_moves_an_applications_own_file(
    tmp_path: Path, migrated_database: MigratedDatabases, berlin: str
) -> None:
    """Move: from a legacy file too; who was logged in by the old application stays so, on the same socket."""
    place = LegacyPlace(legacy_file(tmp_path / "sessions.db"), migrated_database(None))
    token = OldSessionManager(place.path).create_session("u1", {"lang": "ko"})
    async with (
        serving(tmp_path, place, HOLDFAST_LEGACY_TZ=berlin) as server,
        server.connect(token=token) as client,
        place.mover(lease=_LEASE, wishes=Wishes(quiet=timedelta(0))) as mover,
    ):
        await mover.start()

        async def all_there() -> bool:
            following = await stats(server)
            return (following.copied, following.away) == (following.rows, [])

        await eventually(all_there, what="the server counts what was copied")
        for change, store in ((mover.cut_over, "postgresql"), (mover.roll_back, "sqlite")):
            await client.send("hello")
            assert await client.recv() == "hello"
            await _changed(change)
            await told(server, partial(_at, store))
            current = await server.get("/api/v1/sessions/current", headers=bearer(token))
            assert current.json()["metadata"] == {"lang": "ko"}
        await client.send("still")
        assert await client.recv() == "still"
    old = OldSessionManager(place.path).get_session(token)
    assert old is not None
    # The handshake and three messages.
    assert old[6] == 4


async def test_what_cannot_be_seen_is_said_to_be_unknown(place: Place, tmp_path: Path) -> None:
    """Move: while PostgreSQL is away nobody knows the phase, and the server serves from SQLite all the same."""
    away = Place(place.path, "postgresql://nobody@127.0.0.1:9/nothing")
    async with serving(tmp_path, away) as server:
        said = await told(server, lambda move: move["authority"] == "sqlite")
        assert (said["serving"], said["phase"]) == ("sqlite", "unknown")
        assert (await stats(server)).away == ["postgresql"]
        assert 'holdfast_move_phase{phase="unknown"} 1.0' in (await server.get("/metrics")).text


async def test_a_server_on_one_store_tells_of_no_move(place: Place, tmp_path: Path) -> None:
    """Move: where one store is named there is nothing to tell."""
    async with running(tmp_path, "server", {"DATABASE_URL": place.address}) as server:
        assert "move" not in (await server.get("/readyz")).json()
        answered = await server.get("/api/v1/stats", headers=bearer(OPERATOR))
        assert StatsAnswer.model_validate_json(answered.text).move is None
        assert "holdfast_move" not in (await server.get("/metrics")).text
