"""Traces for the replay: a made-up one of the real one's shape, and what any trace must give."""

import csv
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

DAY = 86_400


class Expected(NamedTuple):
    """What a replay must end with."""

    sessions: int
    requests: int
    expired: int


def write_trace(path: Path, requests: int = 1_200, clients: int = 200, hours: int = 83, seed: int = 1) -> None:
    """Requests over some days: a few busy clients and many rare ones, in bursts, with silences of more than a day."""
    chance = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(clients)]
    rows: list[tuple[int, int]] = []
    while len(rows) < requests - 5:
        second = chance.randrange(hours * 3_600)
        (client,) = chance.choices(range(1, clients + 1), weights)
        # A page brings its pictures: several requests in the same second or the next ones.
        rows += [(second + chance.randrange(3), client) for _ in range(chance.choice([1, 1, 2, 6]))]
    del rows[requests - 5 :]
    # A client on the edge: a second before its session's end, at the end, and just before the next one's.
    edge = clients + 1
    rows += [(at, edge) for at in (100, 100 + DAY - 2, 100 + DAY, 100 + DAY + 1, 100 + 2 * DAY - 2)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["second", "client"])
        writer.writerows(sorted(rows))


def expected(path: Path) -> Expected:
    """Count the sessions of a trace, client by client; not the way the replay does it, second by second."""
    times: dict[str, list[int]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            times.setdefault(row["client"], []).append(int(row["second"]))
    sessions: Counter[str] = Counter()
    expired = 0
    for client, seconds in times.items():
        rest = seconds
        while rest:
            began = rest[0]
            later = [second for second in rest if second - began >= DAY]
            sessions[client] += 1
            # On the very second the old token may live on for the fraction of a second that its create took.
            expired += bool(later) and later[0] - began > DAY
            rest = later
    return Expected(sessions.total(), sum(map(len, times.values())), expired)
