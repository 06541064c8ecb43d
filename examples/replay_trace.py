"""Replay a trace of real requests against a running server, with time moved as the trace says.

    export HOLDFAST_APP_TOKEN=… HOLDFAST_ADMIN_TOKEN=…            # at least 32 characters each
    python -m holdfast.server.testing --port 8001 --database sqlite:///replay.db &
    python examples/replay_trace.py trace.csv --url http://127.0.0.1:8001

The trace is a CSV file with the columns `second` and `client`. A client's first request, and its first one 24 hours
or more after its session began, creates a session; every request validates the client's session once. What happens
within one second of the trace goes out at once, on several connections; between two seconds the server's clock moves.

Exit code 1 when a validate is refused that should not be, or an expired token is not refused. Standard library only.
"""

import argparse
import csv
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LIFETIME_SECONDS = 86_400
CONNECTIONS = 8
# The server closes a connection that idles for five seconds. To ask on it at that moment would leave us without an
# answer, and a validate whose answer is lost must not be sent twice.
IDLE_SECONDS = 2.0


class Refused(Exception):
    """The server answered what it must not."""


class Server:
    """A Holdfast server, asked from any thread; each has a connection of its own."""

    def __init__(self, url: str, app_token: str) -> None:
        self._place = urlsplit(url).netloc
        self._app_token = app_token
        self._own = threading.local()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> tuple[int, Any]:
        """The status and the body of one answer."""
        if time.monotonic() - getattr(self._own, "used", 0.0) > IDLE_SECONDS:
            self._own.connection = http.client.HTTPConnection(self._place, timeout=30)
        headers = {"Authorization": f"Bearer {token or self._app_token}", "Content-Type": "application/json"}
        self._own.connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._own.connection.getresponse()
        text = response.read()
        self._own.used = time.monotonic()
        return response.status, json.loads(text) if text else None

    def create(self, user: str) -> tuple[str, str]:
        """A new session: its id and its token."""
        status, body = self.ask("POST", "/api/v1/sessions", {"user_id": user})
        if status != 201:
            raise Refused(f"a session was not created: {status} {body}")
        return body["id"], body["token"]

    def validate(self, token: str) -> dict[str, Any]:
        """The session of a token that must be live."""
        status, body = self.ask("POST", "/api/v1/sessions/validate", {"token": token})
        if status != 200 or not body["active"]:
            raise Refused(f"a live session was refused: {status} {body}")
        session: dict[str, Any] = body["session"]
        return session

    def is_open(self, token: str) -> bool:
        """Whether a token still opens its session. Counts nothing."""
        return self.ask("GET", "/api/v1/sessions/current", token=token)[0] == 200

    def advance(self, seconds: float) -> datetime:
        """Move the server's clock; what it shows then. Only the server of the test kit can do it."""
        status, body = self.ask("POST", "/testing/clock", {"advance_seconds": seconds})
        if status != 200:
            raise Refused(f"the clock cannot be moved ({status}): is it `python -m holdfast.server.testing`?")
        return datetime.fromisoformat(body["now"])


class Known(NamedTuple):
    """A client's present session."""

    id: str
    token: str
    began: int


class Replay:
    """The clients of a trace, and what the server answered them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.known: dict[str, Known] = {}
        self.counts: dict[str, int] = {}
        self.validates = self.expired = 0
        self.ahead = 0.0
        self._lock = threading.Lock()

    def run(self, trace: Iterator[tuple[int, list[str]]]) -> None:
        """Replay it, second by second."""
        begun = self.server.advance(0)
        with ThreadPoolExecutor(CONNECTIONS) as connections:
            for second, requests in trace:
                # The server's clock goes on by itself while it works, so the next step is that much shorter.
                lag = (begun + timedelta(seconds=second) - self.server.advance(0)).total_seconds()
                self.ahead = max(self.ahead, -lag)
                if lag > 0:
                    self.server.advance(lag)
                # A client with several requests in one second has one session: begin that first.
                list(connections.map(lambda client, now=second: self.begin(client, now), set(requests)))
                list(connections.map(self.validate, requests))

    def begin(self, client: str, second: int) -> None:
        """Create a session for a client that has none, or whose session has run out."""
        old = self.known.get(client)
        if old is not None and second < old.began + LIFETIME_SECONDS:
            return
        if old is not None and second > old.began + LIFETIME_SECONDS:
            if self.server.is_open(old.token):
                raise Refused(f"session {old.id} is open {second - old.began} seconds after it began")
            with self._lock:
                self.expired += 1
        self.known[client] = Known(*self.server.create(f"client-{client}"), second)

    def validate(self, client: str) -> None:
        """One request of a client, answered with its own session."""
        known = self.known[client]
        session = self.server.validate(known.token)
        if session["id"] != known.id or session["user_id"] != f"client-{client}":
            raise Refused(f"client {client} was given somebody else's session")
        with self._lock:
            self.validates += 1
            self.counts[known.id] = max(self.counts.get(known.id, 0), session["request_count"])


def read(path: str, limit: int | None) -> Iterator[tuple[int, list[str]]]:
    """Each second of a trace with its requests, in order."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = [(int(row["second"]), row["client"]) for row in csv.DictReader(file)][:limit]
    for second, group in groupby(rows, key=lambda row: row[0]):
        yield second, [client for _, client in group]


def main() -> int:
    """Replay and report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", help="a CSV file with the columns second,client")
    parser.add_argument("--url", default="http://127.0.0.1:8001", help="the server of the test kit")
    parser.add_argument("--limit", type=int, help="replay only so many requests")
    arguments = parser.parse_args()
    replay = Replay(Server(arguments.url, os.environ["HOLDFAST_APP_TOKEN"]))
    started = time.monotonic()
    try:
        replay.run(read(arguments.trace, arguments.limit))
    except Refused as error:
        print(f"REFUSED: {error}", file=sys.stderr)
        return 1
    print(f"sessions created        {len(replay.counts):>8,}")
    print(f"clients                 {len(replay.known):>8,}")
    print(f"validates, all accepted {replay.validates:>8,}")
    print(f"sum of request_count    {sum(replay.counts.values()):>8,}")
    print(f"expired tokens refused  {replay.expired:>8,}")
    print(f"the server's clock was at most {replay.ahead:.2f} s ahead of the trace; {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
