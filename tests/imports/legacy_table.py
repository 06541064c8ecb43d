"""A legacy table in PostgreSQL, as an application left it, and how to see what it has become."""

import hashlib
from typing import Final, Literal

from tests.support.admin import execute

ROWS: Final = 1200
_TABLE: Final = """CREATE TABLE sessions (session_id varchar(100) PRIMARY KEY, user_id varchar(100), metadata text,
    created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, last_activity timestamptz NOT NULL,
    request_count integer DEFAULT 0)"""
_ROWS: Final = """INSERT INTO sessions SELECT 'session-' || n, 'user-' || n, '{{"n": ' || n || '}}',
    now() - interval '1 hour', CASE n WHEN 1 THEN 'infinity' ELSE now() + interval '5 hours' END, now(), n
    FROM generate_series(1, {rows}) AS n"""
_COUNTS: Final = "SELECT count(*), count(DISTINCT {key}), sum(request_count) FROM sessions"


def make_table(address: str, rows: int = ROWS) -> str:
    """Nothing but the table, in the schema `public` of a database; its address."""
    execute(
        address,
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        _TABLE,
        "CREATE INDEX idx_expires_at ON sessions(expires_at)",
        _ROWS.format(rows=rows),
    )
    return address


def digest_of_rows(address: str) -> str:
    """Of the application's whole table."""
    rows = execute(address, "SELECT s::text FROM sessions AS s ORDER BY session_id")
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def whose_table(address: str, rows: int) -> Literal["the application's", "Holdfast's"]:
    """Whose table has the name. Either is whole, or this fails."""
    columns = execute(address, "SELECT attname FROM pg_attribute WHERE attrelid = 'sessions'::regclass")
    ours = ["digest"] in columns
    counts = execute(address, _COUNTS.format(key="digest" if ours else "session_id"))
    assert counts == [[rows, rows, rows * (rows + 1) // 2]]
    aside = execute(address, "SELECT to_regclass('holdfast_legacy_sessions') IS NOT NULL")[0][0]
    assert ours or not aside
    return "Holdfast's" if ours else "the application's"
