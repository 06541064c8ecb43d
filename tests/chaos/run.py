"""One run from beginning to end: start the world, let clients and nemesis at it, wait for calm, write down what is."""

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.clients import Api, Client, Step, steps
from tests.chaos.history import History, Rest, Rules
from tests.chaos.limits import CLOSE_WITHIN_POLLING
from tests.chaos.nemesis import Nemesis, schedule
from tests.chaos.population import Population
from tests.chaos.socket_clients import SocketClient, Visit
from tests.chaos.world import OPERATOR, World
from tests.support.polling import eventually
from tests.support.postgres import PostgresCluster

SERVERS: Final = 3
RULES: Final = Rules(lifetime=20.0, idle=13.0, max_lifetime=60.0, cap=4, deadline=2.0, connections=14)
"""Short, so that every way to end comes often: lifetime, idle timeout, cap in time and in number.

But longer than the ten seconds of promise 6: when a session's time has come its server looks at it in any case, and
would find an end that no hint and no poll has told it of.
"""

_USERS: Final = 22
_TO_REST: Final = 20.0
_TO_END: Final = 60.0

log = logging.getLogger("holdfast.tests")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run."""

    seed: int
    seconds: float
    clients: int = 15
    sockets: int = 54
    pause: float = 0.15
    """Seconds between two calls of one client, on average."""


async def run(plan: Plan, postgres: PostgresCluster, address: str, folder: Path) -> History:
    """Make a run and return everything that happened; `address` is a migrated database on that PostgreSQL."""
    time = asyncio.get_running_loop().time
    history = History(RULES, plan.seed, began=time())
    world = World(history, postgres, address, folder, SERVERS)
    async with world.running():
        await world.snapshot("in the beginning")
        api = Api(world)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(api.close)
            history.before = await _warmed_up(world, api)
            history.began = time()
            await _storm(plan, world, api)
        history.after = await _at_rest(world, history.before)
        history.backends = await world.count_backends()
        await world.snapshot("in the end")
        await asyncio.gather(*(server.stop() for server in world.servers))
        await _none_left(world)
    world.read_logs()
    return history


async def _storm(plan: Plan, world: World, api: Api) -> None:
    """Clients and faults for as long as planned, and then the calm in which every promise falls due."""
    people = Population(world.history, _USERS)
    stop, leave = asyncio.Event(), asyncio.Event()
    clients = [Client(number, api, people, steps(plan.seed, number, plan.pause)) for number in range(plan.clients)]
    sockets = [SocketClient(number, plan.seed, api, people) for number in range(plan.sockets)]
    calling = [asyncio.create_task(client.run(stop)) for client in clients]
    chatting = [asyncio.create_task(client.run(stop, leave)) for client in sockets]
    nemesis = Nemesis(world, schedule(plan.seed, plan.seconds, world.count))
    breaking = asyncio.create_task(nemesis.run())
    try:
        # A client that fails by itself ends the run at once.
        working = [*calling, *chatting, breaking]
        done, _ = await asyncio.wait(working, timeout=plan.seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        await breaking
        stop.set()
        await asyncio.wait(calling, timeout=_TO_END)
        await _count_active(world, api)
        await _closed(world, chatting)
        leave.set()
        await asyncio.wait(chatting, timeout=_TO_END)
        for task in (*calling, *chatting):
            # One that is not done hangs in a call that has no end: the checker says which.
            if task.done():
                task.result()
    finally:
        stop.set()
        leave.set()
        for task in (*calling, *chatting, breaking):
            task.cancel()
        await asyncio.gather(*calling, *chatting, breaking, return_exceptions=True)


async def _warmed_up(world: World, api: Api) -> list[Rest]:
    """What each server has once it has done a little of everything, and is told of ends."""
    for server in range(world.count):

        async def chatted(server: int = server) -> bool:
            people = Population(world.history, 1)
            await Client(server, api, people, steps(0, server, 1.0)).act(Step("create", 0.5, 0.5, 0.0))
            for held in list(people.held.values()):
                client = SocketClient(server, 0, api, people)
                await client.visit(Visit(server), held, asyncio.Event(), asyncio.Event())
            return any(each.server == server and each.opened is not None for each in world.history.sockets)

        await eventually(chatted, what=f"a socket was open on server {server}")
    await world.serves_again(range(world.count))
    return await _at_rest(world, None)


async def _at_rest(world: World, before: list[Rest] | None) -> list[Rest]:
    """What each server has at every look, until that is no more than before, or a while is over.

    Each sweeps and looks now and then, on a busy machine for a good part of the time; what is left of the clients is
    there every time.
    """
    found = await world.rests()

    async def calm() -> bool:
        found[:] = [least(*each) for each in zip(found, await world.rests(), strict=True)]
        if before is None:
            return not any(name.startswith("holdfast-call") for rest in found for name in rest.tasks)
        return all(
            now.files <= then.files and now.clients == 0 and _no_more(now.tasks, then.tasks)
            for now, then in zip(found, before, strict=True)
        )

    try:
        await eventually(calm, what="the servers come to rest", deadline=_TO_REST)
    except TimeoutError as error:
        log.warning("%s", error)
    return list(found)


def _no_more(now: dict[str, int], then: dict[str, int]) -> bool:
    return all(count <= then.get(name, 0) for name, count in now.items())


def least(one: Rest, other: Rest) -> Rest:
    """What is there in both of two looks at a server."""
    tasks = {name: min(count, other.tasks[name]) for name, count in one.tasks.items() if name in other.tasks}
    return Rest(
        one.server,
        tasks,
        files=min(one.files, other.files),
        clients=min(one.clients, other.clients),
        database=min(one.database, other.database),
    )


async def _count_active(world: World, api: Api) -> None:
    """Let every server count the active sessions at a moment in which none begins or runs out."""
    history = world.history

    async def counted() -> bool:
        before = await world.count_live()
        calls = [(await api.call("stats", server, "GET", "/stats", OPERATOR))[0] for server in range(world.count)]
        history.final_active = [call.count or 0 for call in calls]
        history.final_live = await world.count_live()
        return before == history.final_live and all(call.outcome == "ok" for call in calls)

    await eventually(counted, what="a moment in which all servers can count", deadline=_TO_END)


async def _closed(world: World, chatting: list["asyncio.Task[None]"]) -> None:
    """Wait until no socket of an ended session is open, no longer than one may be."""

    async def none_left() -> bool:
        live = await world.live()
        opened = [each for each in world.history.sockets if each.opened is not None and each.ended == float("inf")]
        return all(task.done() for task in chatting) or all(each.session in live for each in opened)

    try:
        await eventually(none_left, what="sockets of ended sessions are closed", deadline=CLOSE_WITHIN_POLLING + 2)
    except TimeoutError as error:
        log.warning("%s", error)


async def _none_left(world: World) -> None:
    """Wait until PostgreSQL has none of the servers' connections, and write down those that stay."""

    async def gone() -> bool:
        return not await world.count_backends()

    try:
        await eventually(gone, what="PostgreSQL has let go of the servers' connections", deadline=_TO_REST)
    except TimeoutError:
        world.history.backends["after the servers"] = sum((await world.count_backends()).values())
