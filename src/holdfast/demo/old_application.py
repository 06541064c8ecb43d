"""The old application: plain `sqlite3`, one table of its own, tokens in clear, local times. It knows no Holdfast.

    python -m holdfast.demo.old_application FILE JOURNAL BEGAN SESSIONS CLIENTS

It begins so many sessions at rest and one for each client, whose tokens are the line that it prints; then it writes
to its file, beside whoever else does, until SIGTERM retires it. Its journal names a session by the SHA-256 of its
token: the old application has no other handle, and a journal holds no token.
"""

import json
import random
import signal
import sqlite3
import sys
import time
import uuid
from contextlib import closing
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from holdfast.demo.journal import Entry, Journal

# PRODUCT's legacy form, as such an application wrote it.
_FORM: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, user_id TEXT, metadata TEXT,
    created_at TIMESTAMP NOT NULL, expires_at TIMESTAMP NOT NULL, last_activity TIMESTAMP NOT NULL,
    request_count INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS idx_expires_at ON sessions(expires_at);
"""
_DAY: Final = timedelta(hours=24)
_PAUSE_SECONDS: Final = 0.04


def name_of(token: str) -> str:
    """How a journal names the session of a token."""
    return f"sha256:{sha256(token.encode()).hexdigest()}"


class OldSessions:
    """The old session manager: a connection for each call, and five seconds of waiting for a lock."""

    def __init__(self, path: Path) -> None:
        """Make the table, unless it is there."""
        self._path = path
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(_FORM)
        path.chmod(0o600)

    def create(self, users: list[str]) -> list[str]:
        """A session for each of these users, in one transaction; their tokens."""
        now = _now()
        tokens = [f"session-{uuid.uuid4()}" for _ in users]
        rows = [
            (token, user, json.dumps({"n": 0}), _text(now), _text(now + _DAY), _text(now), 0)
            for token, user in zip(tokens, users, strict=True)
        ]
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return tokens

    def validate(self, token: str) -> bool:
        """Whether it is there and has not expired; counts one request then."""
        statement = (
            "UPDATE sessions SET last_activity = ?, request_count = request_count + 1 "
            "WHERE session_id = ? AND expires_at > ?"
        )
        return self._write(statement, _text(_now()), token, _text(_now()))

    def delete(self, token: str) -> bool:
        """Log out."""
        return self._write("DELETE FROM sessions WHERE session_id = ?", token)

    def _write(self, statement: str, *values: Any) -> bool:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return connection.execute(statement, values).rowcount > 0


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005, TID251 - that is how it was, and what Holdfast has to live with


def _text(at: datetime) -> str:
    return at.isoformat(" ")


def main(path: str, journal: str, began: float, sessions: int, clients: int) -> None:
    """Begin sessions, tell the clients' tokens, write until retired."""
    retired = False

    def retire(*_: object) -> None:
        nonlocal retired
        retired = True

    signal.signal(signal.SIGTERM, retire)
    old, chance = OldSessions(Path(path)), random.SystemRandom()
    with Journal(Path(journal), began) as notes:
        shared = old.create([f"client-{number + 1:03}" for number in range(clients)])
        for token in (*shared, *old.create([f"at-rest-{number + 1}" for number in range(sessions)])):
            notes.note(Entry("created", name_of(token)))
        sys.stdout.write(json.dumps(shared) + "\n")
        sys.stdout.flush()
        own: list[str] = []
        while not retired:
            since, step = time.monotonic(), chance.random()
            what, token = "validated", chance.choice(shared)
            try:
                if step < 0.1:
                    what, token = "created", old.create(["old-user"])[0]
                    own.append(token)
                    done = True
                elif step < 0.15 and own:
                    what, token = "ended", own.pop(0)
                    done = old.delete(token)
                else:
                    done = old.validate(token)
            except sqlite3.OperationalError:
                # It waited for five seconds, as it always did, and nothing was done.
                what, done = "refused", True
            ms = round((time.monotonic() - since) * 1000, 1)
            notes.note(Entry(what if done else "logged out", name_of(token), ms, of="" if done else what))
            time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
