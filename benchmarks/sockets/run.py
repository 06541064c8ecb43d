"""Bars B10 and B11: measure what was asked for, and say what was found."""

import statistics
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.database import Database
from benchmarks.report import Figures
from benchmarks.sockets.bars import Measured, Place, Scale, busy, ends, idle
from benchmarks.sockets.server import SETTINGS
from holdfast.server.handles import room_for_sockets

BARS = ("B10", "B11")

_POSTGRESQL_GOALS = {"B10": "<= 10 ms", "B11": "<= 50 ms"}
# SQLite has no bar here. What it does is shown all the same.
_NO_GOAL = "-"


@dataclass
class SocketRun:
    """What was measured, and what it comes to."""

    findings: list[Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, Any]:
        """What the file holds of it, but for the findings."""
        return {"server": SETTINGS, **self.samples}


def check_room(scale: Scale) -> None:
    """Refuse more sockets than a process of this machine may have."""
    # One process has the clients of all three sides of the busy part. Those it starts inherit the limit.
    wanted = max(scale.idle_sockets, 3 * scale.busy_sockets, scale.revocations)
    room = room_for_sockets(wanted)
    if room < wanted:
        raise SystemExit(f"one process may have {room} sockets here; raise `ulimit -n`, or ask for fewer")


async def run(bars: Collection[str], database: Database, directory: Path, scale: Scale) -> SocketRun:
    """Measure the bars that are asked for."""
    done = SocketRun(samples={"scale": asdict(scale)})
    places = (Place.on_postgresql(database), Place.on_sqlite(directory / "sockets.db"))
    if "B10" in bars:
        print(f"{scale.idle_sockets:,} idle sockets", flush=True)
        done.samples["idle"] = rounds = await idle(places[0], scale)
        _about_idle(done, rounds)
        print(f"{scale.busy_sockets:,} busy sockets", flush=True)
        done.samples["busy"] = rounds = await busy(places, scale)
        _about_busy(done, rounds, places)
    if "B11" in bars:
        done.samples["ends"] = {}
        for place in places:
            print(f"{scale.revocations:,} sessions revoked on {place.name}", flush=True)
            done.samples["ends"][place.name] = found = await ends(place, scale, directory)
            _about_ends(done, found, place)
    return done


def _about_idle(done: SocketRun, rounds: Sequence[dict[str, Measured]]) -> None:
    ratios = [each["guarded"]["bytes_each"] / each["plain"]["bytes_each"] for each in rounds]
    shown = {side: _middle(rounds, side, "bytes_each") for side in ("guarded", "plain")}
    done.findings.append(
        Figures(
            *("B10 memory", "<= 1.25", "an idle guarded socket against an unguarded one", ratios, "x"),
            *(_spread(ratios), f"{shown['guarded']:,.0f} bytes", f"{shown['plain']:,.0f} bytes"),
        )
    )
    done.notes += [
        f"all sockets idle, {side}: {_middle(rounds, side, 'processor_percent'):.1f} % of a processor; "
        f"handshakes: {_middle(rounds, side, 'handshakes_per_second'):,.0f}/s"
        for side in ("guarded", "plain")
    ]


def _about_busy(done: SocketRun, rounds: Sequence[dict[str, Measured]], places: Sequence[Place]) -> None:
    for place in places:
        added = [each[place.name]["p99"] - each["plain"]["p99"] for each in rounds]
        goal = _POSTGRESQL_GOALS["B10"] if place.name == "postgresql" else _NO_GOAL
        done.findings.append(
            Figures(
                *(f"B10 p99, {place.name}", goal, "what the guard adds to the p99 of an echo", added, "ms"),
                _spread(added),
                *(f"{_middle(rounds, side, 'p99'):.2f} ms" for side in (place.name, "plain")),
            )
        )
    done.notes += [
        f"an echo, {side}: median {_middle(rounds, side, 'median'):.2f} ms, "
        f"{_middle(rounds, side, 'processor_microseconds'):.0f} µs of its server's processor; "
        f"the client was late by {_middle(rounds, side, 'late_p99'):.2f} ms at p99"
        for side in (*(place.name for place in places), "plain")
    ]


def _about_ends(done: SocketRun, found: Measured, place: Place) -> None:
    goal = _POSTGRESQL_GOALS["B11"] if place.name == "postgresql" else _NO_GOAL
    done.findings.append(
        Figures(
            *(f"B11 p99, {place.name}", goal, "revoked on another server: answer to close frame", [found["p99"]], "ms"),
            f"up to {found['longest']:.2f}",
            *(f"median {found['median']:.2f} ms", ""),
        )
    )
    if found["before_the_answer"]:
        done.notes.append(f"on {place.name} {found['before_the_answer']:.0f} closes came before the answer")


def _middle(rounds: Sequence[dict[str, Measured]], side: str, name: str) -> float:
    return statistics.median(each[side][name] for each in rounds)


def _spread(figures: Sequence[float]) -> str:
    return f"{min(figures):.2f} to {max(figures):.2f}"
