"""The report of a run: what was done, what was broken, what took how long; Markdown for people, JSON for programs.

The page docs/explanation/chaos-run.md is one of these, kept.
"""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any, Final

from tests.chaos.check_sockets import Close, closes
from tests.chaos.history import Effect, History
from tests.chaos.limits import CLOSE_WITHIN, CLOSE_WITHIN_POLLING, OBSERVING
from tests.chaos.run import Plan
from tests.chaos.story import stories
from tests.chaos.timeline import had_trouble, overlap
from tests.chaos.violation import Violation

_PAGE: Final = Path(__file__).with_name("page.md")
_ROOT: Final = Path(__file__).parents[2]
_CANNOT_LOOK: Final[tuple[Effect, ...]] = ("frozen", "stopped", "store")
_MEANING: Final = {
    1000: "the client left",
    1006: "no close frame: the server was killed",
    1012: "restart: the server was being stopped",
    1013: "unavailable: a message could not be checked, because the store was away",
    4401: "expired or idle",
    4403: "revoked",
    4409: "evicted by the cap",
}


def keep(history: History, plan: Plan, found: list[Violation], folder: Path) -> Path:
    """Write the report into the folder that HOLDFAST_TEST_CHAOS_REPORT names, else into another; where it is.

    A run with violations also leaves its whole history there.
    """
    place = Path(os.environ.get("HOLDFAST_TEST_CHAOS_REPORT") or folder)
    place.mkdir(parents=True, exist_ok=True)
    facts = summary(history, plan, found)
    (place / "chaos-run.json").write_text(json.dumps(facts, indent=1) + "\n")
    (place / "chaos-run.md").write_text(page(facts))
    if found:
        (place / "chaos-history.json").write_text(json.dumps(dataclasses.asdict(history), default=_plain))
    return place


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(type(value))


def summary(history: History, plan: Plan, found: list[Violation]) -> dict[str, Any]:
    """Everything that the page says, as numbers."""
    told = stories(history)
    closed = list(closes(history, told))
    opened = [socket for socket in history.sockets if socket.opened is not None]
    longest = max(history.calls, key=lambda call: call.ended - call.begun)
    undisturbed = [
        call.ended - call.begun
        for call in history.calls
        if not history.disturbed(("frozen", "stopped"), call.server, call.begun, call.ended)
    ]
    rows = history.snapshots[-1].rows.values()
    return {
        "seed": plan.seed,
        "seconds": round(plan.seconds),
        "clients": plan.clients,
        "socket_clients": plan.sockets,
        "rules": dataclasses.asdict(history.rules),
        "machine": _machine(),
        "violations": [each._asdict() for each in found],
        "calls": _outcomes(history),
        "sessions": len(rows),
        "ends": dict(sorted(Counter(row.reason or "live or not swept" for row in rows).items())),
        "tokens": len(history.tokens),
        "handshakes": _counted(
            "opened" if socket.opened is not None else socket.status or "hung" for socket in history.sockets
        ),
        "messages": _counted(
            "echoed" if message.echoed is not None else "not echoed" for socket in opened for message in socket.messages
        ),
        "closes": _counted(f"{socket.code} {socket.reason}".strip() for socket in opened),
        "faults": _faults(history),
        "snapshots": len(history.snapshots),
        "push": _latencies(history, [close for close in closed if close.due.rule == "push"]),
        "polling": _latencies(history, [close for close in closed if close.due.rule == "polling"]),
        "longest_call": {
            "seconds": round(longest.ended - longest.begun, 3),
            "kind": longest.kind,
            "outcome": longest.outcome,
            "server_stood_still": round(
                overlap(history, ("frozen", "stopped"), longest.server, longest.begun, longest.ended), 3
            ),
        },
        **_calm(history),
        "longest_undisturbed_call": round(max(undisturbed, default=0.0), 3),
        "kept_waiting": [round(each, 1) for each in history.samples[-1].waited],
        "observer_late": round(max(sample.late for sample in history.samples), 3),
        "active_in_the_end": history.final_live,
    }


def _calm(history: History) -> dict[str, int]:
    """How many calls went to servers without trouble, and how many of those failed all the same."""
    calm = [
        call
        for call in history.calls
        if not had_trouble(history, call.server, call.begun - history.rules.deadline, call.ended)
    ]
    return {"calm_calls": len(calm), "calm_failures": sum(call.outcome in ("failed", "unknown") for call in calm)}


def _outcomes(history: History) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for call in history.calls:
        found[call.kind][call.outcome] += 1
    return {kind: dict(found[kind]) for kind in sorted(found)}


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _faults(history: History) -> dict[str, dict[str, float]]:
    of_kind = defaultdict(list)
    for window in history.windows:
        of_kind[window.kind].append(window)
    return {
        kind: {
            "times": len(windows),
            "seconds": round(sum(each.ended - each.begun for each in windows), 1),
            "longest_recovery": round(max(each.recovered - each.ended for each in windows), 2),
        }
        for kind, windows in sorted(of_kind.items())
    }


def _latencies(history: History, closed: Sequence[Close]) -> dict[str, float]:
    """How long closes took, not counting what their servers stood still or were cut off from the store."""
    took = sorted(
        close.took - overlap(history, _CANNOT_LOOK, close.socket.server, close.since, close.since + close.took)
        for close in closed
    )
    if not took:
        return {"number": 0}
    return {
        "number": len(took),
        "median": round(statistics.median(took), 3),
        "p99": round(took[min(len(took) - 1, int(len(took) * 0.99))], 3),
        "longest": round(took[-1], 3),
        "late_by_the_machine": sum(close.took > close.due.at - close.since + OBSERVING for close in closed),
    }


def _machine() -> dict[str, str]:
    command = ["git", "-c", f"safe.directory={_ROOT}", "-C", str(_ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return {
        "processors": str(os.cpu_count()),
        "load": f"{os.getloadavg()[1]:.1f}",
        "python": platform.python_version(),
        "uvicorn": version("uvicorn"),
        "websockets": version("websockets"),
        "asyncpg": version("asyncpg"),
        "commit": done.stdout.strip() or "unknown",
    }


# The page


def page(facts: dict[str, Any]) -> str:
    """The report as a page."""
    longest = facts["longest_call"]
    named = {
        "within": f"{CLOSE_WITHIN:g}",
        "polling": f"{CLOSE_WITHIN_POLLING:g}",
        "observing": f"{OBSERVING:g}",
        **{
            name: facts[name]
            for name in ("seed", "seconds", "clients", "socket_clients", "sessions", "tokens", "snapshots")
        },
        **{
            name: facts[name]
            for name in (
                "longest_undisturbed_call",
                "active_in_the_end",
                "observer_late",
                "calm_calls",
                "calm_failures",
            )
        },
        **facts["machine"],
        **{name: f"{value:g}" for name, value in facts["rules"].items()},
        **{name: _listed(facts[name]) for name in ("ends", "handshakes", "messages")},
        "violations": len(facts["violations"]),
        "calls": _calls(facts["calls"]),
        "longest_call": f"{longest['seconds']} s ({longest['kind']}, {longest['outcome']}), of which its server was "
        f"frozen or gone for {longest['server_stood_still']} s",
        "closes": _closes(facts["closes"]),
        "latencies": _latency_table(facts),
        "faults": _fault_table(facts["faults"]),
        "kept_waiting": ", ".join(str(each) for each in facts["kept_waiting"]),
    }
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(named)


def _calls(calls: dict[str, dict[str, int]]) -> str:
    outcomes = ("ok", "refused", "failed", "unknown")
    rows = [(kind, *(found.get(each, 0) for each in outcomes)) for kind, found in calls.items()]
    return _table(("call", *outcomes), rows)


def _closes(closes: dict[str, int]) -> str:
    rows = [(code, times, _MEANING.get(int(code.split()[0]), "no cause is known")) for code, times in closes.items()]
    return _table(("close", "times", "why"), rows)


def _latency_table(facts: dict[str, Any]) -> str:
    columns = ("number", "median", "p99", "longest", "late_by_the_machine")
    names = {"push": "hints reach the server", "polling": "a fault of server, store or channel is near"}
    rows = [(name, *(facts[key].get(each, "") for each in columns)) for key, name in names.items()]
    return _table(("when", "closes", "median", "p99", "longest", "late only by the machine"), rows)


def _fault_table(faults: dict[str, dict[str, float]]) -> str:
    rows = [(kind, each["times"], each["seconds"], each["longest_recovery"]) for kind, each in faults.items()]
    return _table(("fault", "times", "seconds in all", "longest until all served again"), rows)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(str(cell) for cell in cells)} |"

    return "\n".join((line(head), f"|{'---|' * len(head)}", *(line(row) for row in rows)))
