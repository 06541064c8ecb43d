"""Who breaks things: a schedule of faults that a seed decides, and the hands that carry it out.

Two tracks run beside each other, one that harms processes and one that harms the network, so that faults of different
kinds meet. When a fault begins is scheduled, and for how long it lasts; how long the machine takes over each is not.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from tests.chaos.history import Effect, Window
from tests.chaos.world import World

LONGEST: Final = 6.0
"""Seconds that a silence of the network may last, so that a commit it holds back is over soon after (`limits`)."""
LONG_FREEZE: Final = 12.0
"""Seconds of the freezes after which a server may believe nothing that it knew before."""

log = logging.getLogger("holdfast.tests")


class Fault(NamedTuple):
    """One fault of the schedule."""

    at: float
    """Seconds from the beginning of the run."""
    kind: str
    server: int
    """Which of the servers, where it concerns one."""
    seconds: float
    """How long it lasts, besides what the machine takes."""
    dice: int
    """For what else is left to chance."""


class Kind(NamedTuple):
    """What faults of one kind mean, and how long they may last."""

    effect: Effect
    everywhere: bool
    shortest: float
    longest: float


PROCESSES: Final = {
    "kill a server": Kind("stopped", False, 0.0, 1.5),
    "restart a server": Kind("stopped", False, 0.0, 0.5),
    "freeze a server": Kind("frozen", False, 0.5, 4.0),
    "freeze a server for long": Kind("frozen", False, LONG_FREEZE, LONG_FREEZE),
    "kill PostgreSQL": Kind("store", True, 0.0, 1.5),
    "restart PostgreSQL": Kind("store", True, 0.0, 0.5),
    "freeze PostgreSQL": Kind("store", True, 0.5, 4.0),
    "end backends": Kind("store", True, 0.0, 0.0),
}
NETWORK: Final = {
    "cut the store's lines": Kind("store", False, 0.0, 0.0),
    "cut a store's line in the middle": Kind("store", False, 0.3, 0.8),
    "lose answers of the store": Kind("store", False, 0.5, 2.0),
    "silence the store": Kind("store", False, 0.5, LONGEST),
    "refuse the store": Kind("store", False, 0.5, 3.0),
    "slow the store": Kind("store", False, 1.0, 4.0),
    "cut the push channel": Kind("push", False, 0.0, 0.0),
    "silence the push channel": Kind("push", False, 2.0, LONGEST),
    "refuse the push channel": Kind("push", False, 2.0, LONGEST),
}
KINDS: Final = PROCESSES | NETWORK


def schedule(seed: int, seconds: float, servers: int) -> list[Fault]:
    """The faults of a run, in order: the same for the same seed."""
    tracks = [
        _track(random.Random(f"{seed} processes"), PROCESSES, seconds, servers, calm=(3.0, 7.0)),
        _track(random.Random(f"{seed} network"), NETWORK, seconds, servers, calm=(1.5, 6.0)),
    ]
    return sorted(fault for track in tracks for fault in track)


def _track(
    dice: random.Random, kinds: dict[str, Kind], seconds: float, servers: int, *, calm: tuple[float, float]
) -> Iterator[Fault]:
    at = dice.uniform(*calm)
    bag: list[str] = []
    while True:
        if not bag:
            # Every kind comes before any comes twice.
            bag = dice.sample(sorted(kinds), len(kinds))
        kind = bag.pop()
        lasts = dice.uniform(kinds[kind].shortest, kinds[kind].longest)
        if at + lasts > seconds:
            return
        yield Fault(at, kind, dice.randrange(servers), lasts, dice.randrange(1 << 30))
        at += lasts + dice.uniform(*calm)


class Nemesis:
    """Carries a schedule out on a world."""

    def __init__(self, world: World, faults: list[Fault]) -> None:
        """Prepare it; `run` begins."""
        self._world = world
        self._faults = faults
        self._hands: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill a server": self._kill_server,
            "restart a server": self._restart_server,
            "freeze a server": self._freeze_server,
            "freeze a server for long": self._freeze_server,
            "kill PostgreSQL": self._kill_postgres,
            "restart PostgreSQL": self._restart_postgres,
            "freeze PostgreSQL": self._freeze_postgres,
            "end backends": self._end_backends,
            "cut the store's lines": self._cut_store,
            "cut a store's line in the middle": self._cut_store_midway,
            "lose answers of the store": self._lose_answers,
            "silence the store": self._silence_store,
            "refuse the store": self._refuse_store,
            "slow the store": self._slow_store,
            "cut the push channel": self._cut_push,
            "silence the push channel": self._silence_push,
            "refuse the push channel": self._refuse_push,
        }

    async def run(self) -> None:
        """Make every fault when its time has come, and none of a track before the last one of it is over."""
        began = asyncio.get_running_loop().time()
        tracks = [[fault for fault in self._faults if fault.kind in kinds] for kinds in (PROCESSES, NETWORK)]
        async with asyncio.TaskGroup() as group:
            for track in tracks:
                group.create_task(self._run(track, began))

    async def _run(self, track: list[Fault], began: float) -> None:
        time = asyncio.get_running_loop().time
        for fault in track:
            # A fault has its time and, below, lasts for as long as it was drawn: neither is waited for by anybody.
            await asyncio.sleep(max(0.0, began + fault.at - time()))
            kind = KINDS[fault.kind]
            servers = range(self._world.count) if kind.everywhere else (fault.server,)
            window = Window(fault.kind, kind.effect, frozenset(servers), time())
            self._world.history.windows.append(window)
            log.info("%.1f s: %s (%d, %.1f s)", time() - began, fault.kind, fault.server, fault.seconds)
            await self._hands[fault.kind](fault)
            window.ended = time()
            if kind.effect == "frozen":
                window.recovered = window.ended
            else:
                await self._world.serves_again(window.servers)
                window.recovered = time()

    # Processes

    async def _kill_server(self, fault: Fault) -> None:
        server = self._world.servers[fault.server]
        server.kill()
        await asyncio.sleep(fault.seconds)
        await server.start()
        await self._world.snapshot(f"after server {fault.server} was killed")

    async def _restart_server(self, fault: Fault) -> None:
        server = self._world.servers[fault.server]
        await server.stop()
        await asyncio.sleep(fault.seconds)
        await server.start()
        await self._world.snapshot(f"after server {fault.server} was restarted")

    async def _freeze_server(self, fault: Fault) -> None:
        server = self._world.servers[fault.server]
        server.freeze()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            server.thaw()

    async def _kill_postgres(self, fault: Fault) -> None:
        await asyncio.to_thread(self._world.postgres.kill)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._world.postgres.start)
        await self._world.snapshot("after PostgreSQL was killed")

    async def _restart_postgres(self, fault: Fault) -> None:
        await asyncio.to_thread(self._world.postgres.stop, "fast" if fault.dice % 2 else "immediate")
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._world.postgres.start)
        await self._world.snapshot("after PostgreSQL was restarted")

    async def _freeze_postgres(self, fault: Fault) -> None:
        await asyncio.to_thread(self._world.postgres.freeze)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            await asyncio.to_thread(self._world.postgres.thaw)

    async def _end_backends(self, fault: Fault) -> None:
        await self._world.end_backends(share=0.2 + fault.dice % 80 / 100)

    # The network

    async def _cut_store(self, fault: Fault) -> None:
        self._world.store_lines[fault.server].cut(reset=fault.dice % 2 == 0)

    async def _cut_store_midway(self, fault: Fault) -> None:
        line = self._world.store_lines[fault.server]
        line.reset_after(1 + fault.dice % 3000, "to_client" if fault.dice % 2 else "to_server")
        await asyncio.sleep(fault.seconds)
        await line.pass_through()

    async def _lose_answers(self, fault: Fault) -> None:
        """PostgreSQL does what it is sent, and the connection is reset in place of the answer: five times at most."""
        line = self._world.store_lines[fault.server]
        traps = [line.drop_next_answer() for _ in range(1 + fault.dice % 5)]
        with suppress(TimeoutError):
            async with asyncio.timeout(fault.seconds):
                await asyncio.gather(*(trap.sprung.wait() for trap in traps))
        await line.pass_through()

    async def _silence_store(self, fault: Fault) -> None:
        line = self._world.store_lines[fault.server]
        line.hold()
        await asyncio.sleep(fault.seconds)
        if fault.dice % 2:
            # Half of the silences end in a cut: what was under way is lost instead of late.
            line.cut()
        await line.pass_through()

    async def _refuse_store(self, fault: Fault) -> None:
        line = self._world.store_lines[fault.server]
        line.refuse()
        line.cut()
        await asyncio.sleep(fault.seconds)
        await line.listen()

    async def _slow_store(self, fault: Fault) -> None:
        line = self._world.store_lines[fault.server]
        line.latency(0.02 + fault.dice % 100 / 1000, jitter=0.05)
        await asyncio.sleep(fault.seconds)
        await line.pass_through()

    async def _cut_push(self, fault: Fault) -> None:
        self._world.push_lines[fault.server].cut(reset=fault.dice % 2 == 0)

    async def _silence_push(self, fault: Fault) -> None:
        line = self._world.push_lines[fault.server]
        line.hold()
        await asyncio.sleep(fault.seconds)
        if fault.dice % 2:
            line.cut()
        await line.pass_through()

    async def _refuse_push(self, fault: Fault) -> None:
        line = self._world.push_lines[fault.server]
        line.refuse()
        line.cut()
        await asyncio.sleep(fault.seconds)
        await line.listen()
