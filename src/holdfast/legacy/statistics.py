"""What can be said of a legacy file's sessions as a whole, counted row by row as they are read.

An ended session leaves only its id, its user and when it ended: how long those lasted and on what is not known.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from holdfast.sessions.session import Record
from holdfast.sessions.statistics import Hour, Share, Statistics
from holdfast.sql.tables import instant
from holdfast.sql.views import DEVICE_KEY

Name = str | None


class Tally:
    """Counts of what has been seen so far."""

    def __init__(self, at: datetime, hours: int) -> None:
        """`at` is the store's clock, from which so many hours are counted back."""
        self._at = at
        self._since = at - timedelta(hours=hours)
        self._live = 0
        self._ended = 0
        self._hours: dict[datetime, list[int]] = {}
        self._shares: tuple[dict[Name, list[int]], dict[Name, list[int]]] = ({}, {})

    def add(self, record: Record, *, live: bool) -> None:
        """Count a row."""
        self._live += live
        if record.created_at >= self._since:
            self._hours.setdefault(_hour(record.created_at), [0, 0])[0] += 1
        for shares, name in zip(self._shares, (record.user_id, _device(record.metadata)), strict=True):
            share = shares.setdefault(name, [0, 0, 0])
            for index, number in enumerate((int(live), 1, record.request_count)):
                share[index] += number

    def add_ended(self, ends: Iterable[tuple[int, Name]]) -> None:
        """Count sessions that are over: when, in microseconds since 1970, and whose."""
        for ended_at, user in ends:
            self._ended += 1
            self._shares[0].setdefault(user, [0, 0, 0])[1] += 1
            if (at := instant(ended_at)) >= self._since:
                self._hours.setdefault(_hour(at), [0, 0])[1] += 1

    def result(self, top: int) -> Statistics:
        """What is to be said of them, with at most so many users and devices."""
        users, devices = self._shares
        return Statistics(
            at=self._at,
            live=self._live,
            ended=self._ended,
            hours=[
                Hour(hour=hour, created=created, ended=ended)
                for hour, (created, ended) in sorted(self._hours.items(), reverse=True)
            ],
            users=_most({name: share for name, share in users.items() if name is not None}, top),
            devices=_most(devices, top),
            durations=None,
        )


def _most(shares: dict[Any, list[int]], top: int) -> list[Share]:
    order = sorted(shares.items(), key=lambda item: (-item[1][0], -item[1][1], item[0] or ""))
    return [Share(name=name, live=live, kept=kept, requests=requests) for name, (live, kept, requests) in order[:top]]


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _device(metadata: str) -> Name:
    value = json.loads(metadata).get(DEVICE_KEY)
    return value if value is None or isinstance(value, str) else json.dumps(value)
