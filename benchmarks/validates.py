"""Contenders in turn, round after round: the bars about one call, and the curve of throughput over callers."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Final

from benchmarks.callers import Contender
from benchmarks.contenders import CONTENDERS
from benchmarks.peers.missing import PeerMissing
from benchmarks.peers.pgbench_update import PgbenchUpdate
from benchmarks.report import BARS, Finding, Runs, ratios
from benchmarks.setting import Setting

CURVE: Final = ("redis", "postgresql", "asyncpg", "pgbench", "orm", "sqlite")
"""Who is in the picture of throughput over callers."""
CURVE_CALLERS: Final = (1, 3, 10, 30, 100, 300, 1_000)
_CURVE_ROUNDS: Final = 3
# More connections than pgbench is asked for by its bar; from there on its callers would be the server's processes.
_MOST_CLIENTS: Final = 100


class Ring:
    """The contenders of one run, each set up once."""

    def __init__(self, setting: Setting, names: Collection[str]) -> None:
        self.setting = setting
        self.contenders: dict[str, Contender] = {}
        self._wanted = [name for name in CONTENDERS if name in names]

    async def set_up(self) -> None:
        """Make those that can be had here; a note says which cannot."""
        for name in self._wanted:
            try:
                self.contenders[name] = contender = await CONTENDERS[name].make(self.setting)
            except PeerMissing as missing:
                if str(missing) not in self.setting.notes:
                    self.setting.notes.append(str(missing))
            else:
                print(f"ready: {contender.name}", flush=True)

    async def run(self) -> Runs:
        """Everybody in turn, so that a busy moment of the machine meets everybody."""
        options = self.setting.options
        callers = {name: 1 if CONTENDERS[name].alone else options.callers for name in self.contenders}
        for name, contender in self.contenders.items():
            await contender.measure(callers[name], self.setting.moment)
        runs: Runs = {name: [] for name in self.contenders}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            for name, contender in self.contenders.items():
                runs[name].append(await contender.measure(callers[name], options.seconds))
        return runs

    async def curve(self) -> dict[str, dict[str, list[float]]]:
        """Calls a second for each number of callers: contender, callers, one figure a round."""
        options = self.setting.options
        numbers = [each for each in CURVE_CALLERS if not options.quick or each <= options.callers]
        rates: dict[str, dict[str, list[float]]] = {name: {} for name in CURVE if name in self.contenders}
        for number in range(min(_CURVE_ROUNDS, options.rounds)):
            print(f"callers from {numbers[0]} to {numbers[-1]:,}, round {number + 1}", flush=True)
            for callers in numbers:
                for name, measured in rates.items():
                    contender = self.contenders[name]
                    if isinstance(contender, PgbenchUpdate):
                        if callers > _MOST_CLIENTS:
                            continue
                        contender = contender.with_clients(callers)
                    sample = await contender.measure(callers, options.seconds)
                    measured.setdefault(str(callers), []).append(sample.per_second)
        return rates


async def validates(setting: Setting, parts: Collection[str]) -> tuple[list[Finding], dict[str, Any]]:
    """Measure the bars that are asked for, and the curve; what was found, and what the file holds of it."""
    wanted = [bar for bar in BARS if bar.name.split()[0] in parts]
    names = {side for bar in wanted for side in (bar.ours, bar.peer)}
    ring = Ring(setting, names | set(CURVE if "callers" in parts else ()))
    await ring.set_up()
    runs = await ring.run()
    kept = kept_of(ring.contenders, runs)
    if "callers" in parts:
        kept["callers"] = await ring.curve()
    if setting.creates:
        made = ", ".join(f"{store} {rate:,.0f}" for store, rate in setting.creates.items())
        setting.notes.append(f"creates a second while filling: {made}")
        kept["creates_per_second"] = setting.creates
    return list(ratios(runs, wanted)), kept


def kept_of(contenders: Mapping[str, Contender], runs: Runs) -> dict[str, Any]:
    """What the file holds of contenders and their samples."""
    return {
        "contenders": {name: contender.name for name, contender in contenders.items()},
        "samples": {name: [dataclasses.asdict(sample) for sample in samples] for name, samples in runs.items()},
    }
