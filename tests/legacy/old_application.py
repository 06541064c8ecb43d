"""An old application, as it was before it had Holdfast: plain `sqlite3`, 24 hours, local times, one table.

Written from the legacy form of PRODUCT.md and from nothing else. Run as a program it writes for a while beside others
and prints what it did.
"""

import json
import random
import sqlite3
import sys
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

FORM = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, user_id TEXT, metadata TEXT,
    created_at TIMESTAMP NOT NULL, expires_at TIMESTAMP NOT NULL, last_activity TIMESTAMP NOT NULL,
    request_count INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS idx_expires_at ON sessions(expires_at);
"""


class OldSessionManager:
    """The seven methods. It opens a connection for each call, and waits five seconds for a lock: the default."""

    def __init__(self, path: Path | str, ttl_hours: float = 24) -> None:
        self.path = str(path)
        self.ttl = timedelta(hours=ttl_hours)
        with self._connect() as connection:
            connection.executescript(FORM)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path)

    def _run(self, statement: str, *values: Any) -> tuple[list[tuple[Any, ...]], int]:
        """What it answers, and how many rows it changed."""
        connection = self._connect()
        try:
            with connection:
                cursor = connection.execute(statement, values)
                return cursor.fetchall(), cursor.rowcount
        finally:
            connection.close()

    def create_session(self, user_id: str | None = None, metadata: dict[str, Any] | None = None) -> str:
        """A new session's token."""
        token = f"session-{uuid.uuid4()}"
        now = local_now()
        self._run(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, 0)",
            *(token, user_id, json.dumps(metadata or {}), text(now), text(now + self.ttl), text(now)),
        )
        return token

    def validate_session(self, token: str) -> bool:
        """Whether it is live; counts one request then."""
        row = self.get_session(token)
        if row is None:
            return False
        self._run(
            "UPDATE sessions SET last_activity = ?, request_count = request_count + 1 WHERE session_id = ?",
            *(text(local_now()), token),
        )
        return True

    def get_session(self, token: str) -> tuple[Any, ...] | None:
        """The row of a live session."""
        rows, _ = self._run("SELECT * FROM sessions WHERE session_id = ?", token)
        row = next(iter(rows), None)
        return row if row is not None and datetime.fromisoformat(row[4]) > local_now() else None

    def delete_session(self, token: str) -> bool:
        """Whether there was a row."""
        return self._run("DELETE FROM sessions WHERE session_id = ?", token)[1] > 0

    def extend_session(self, token: str, hours: float = 24) -> bool:
        """Move the expiry to so many hours from now."""
        expires_at = text(local_now() + timedelta(hours=hours))
        return self._run("UPDATE sessions SET expires_at = ? WHERE session_id = ?", expires_at, token)[1] > 0

    def cleanup_expired_sessions(self) -> int:
        """How many rows went."""
        return self._run("DELETE FROM sessions WHERE expires_at < ?", text(local_now()))[1]

    def get_active_session_count(self) -> int:
        """How many are live."""
        rows, _ = self._run("SELECT count(*) FROM sessions WHERE expires_at > ?", text(local_now()))
        return int(rows[0][0])


def local_now() -> datetime:
    """What the old application took for the time: naive, of its own zone."""
    return datetime.now()  # noqa: DTZ005 - that is how it was, and what Holdfast has to live with


def text(at: datetime) -> str:
    """As Python's default adapter writes a time; spelt out, since that adapter is deprecated."""
    return at.isoformat(" ")


def legacy_file(path: Path, journal_mode: str = "delete") -> Path:
    """A file as the old application makes it on its first start."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    connection.close()
    OldSessionManager(path)
    path.chmod(0o600)
    return path


def main(path: str, shared: list[str], seconds: float, seed: int) -> None:
    """Write for so many seconds; prints the counts acknowledged per token, the tokens made, and what went wrong."""
    old, chance = OldSessionManager(path), random.Random(seed)
    counted = dict.fromkeys(shared, 0)
    made: list[str] = []
    ended: list[str] = []
    errors: list[str] = []
    longest = 0.0
    until = time.monotonic() + seconds
    print("ready", flush=True)  # noqa: T201 - its answer
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            step = chance.random()
            if step < 0.1:
                made.append(old.create_session(f"old-{seed}", {"made": len(made)}))
            elif step < 0.13 and made:
                ended.append(made.pop(0))
                old.delete_session(ended[-1])
            elif step < 0.16:
                old.extend_session(chance.choice(shared), 24)
            else:
                token = chance.choice(shared)
                counted[token] += old.validate_session(token)
        except sqlite3.Error as error:
            errors.append(str(error))
        longest = max(longest, time.monotonic() - began)
    print(json.dumps({"counted": counted, "made": made, "ended": ended, "errors": errors, "longest": longest}))  # noqa: T201 - as above


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","), float(sys.argv[3]), int(sys.argv[4]))
