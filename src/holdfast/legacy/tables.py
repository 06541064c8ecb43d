"""What Holdfast keeps beside a legacy table: its own tables, and triggers that note which rows come and go.

The legacy table itself is never altered. The triggers run in the old application's process too, so they are plain SQL
that only inserts, into tables without a constraint that could fail there. Nothing here is a native table: the names
say whose they are, and dropping all that begins with `holdfast_` leaves the file as the old application made it.
"""

import sqlite3
from typing import Final

from holdfast.sessions.store import FIRST_EPOCH

TABLES: Final = (
    # What a legacy row has no column for. The key is the token in clear, as it is in the legacy table. `odd`: whether
    # the row's user is something else than a text that can be one, or its expiry something else than a usual time.
    # Only what grows at its end as rows are adopted is indexed here: an index in any other order would be written all
    # over by each chunk of a large table.
    """CREATE TABLE IF NOT EXISTS holdfast_ids (
        session_id TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL,
        previous_digest BLOB, replaced_at INTEGER, user_id TEXT, odd INTEGER NOT NULL)""",
    # A move back has sessions whose token nobody knows: their keys begin like this.
    """CREATE INDEX IF NOT EXISTS holdfast_ids_keyless_idx ON holdfast_ids (digest)
        WHERE session_id >= 'holdfast-' AND session_id < 'holdfast.'""",
    # Whose the rows are; kept by triggers, but while a chunk of a whole table is adopted: `bulk` has a row then, which
    # no other connection ever sees.
    """CREATE TABLE IF NOT EXISTS holdfast_owners (
        user_id TEXT, id TEXT, PRIMARY KEY (user_id, id)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS holdfast_bulk (id INTEGER PRIMARY KEY)",
    """CREATE TRIGGER IF NOT EXISTS holdfast_owners_new AFTER INSERT ON holdfast_ids
        WHEN NEW.user_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM holdfast_bulk)
        BEGIN INSERT OR IGNORE INTO holdfast_owners VALUES (NEW.user_id, NEW.id); END""",
    """CREATE TRIGGER IF NOT EXISTS holdfast_owners_gone AFTER DELETE ON holdfast_ids WHEN OLD.user_id IS NOT NULL
        BEGIN DELETE FROM holdfast_owners WHERE user_id = OLD.user_id AND id = OLD.id; END""",
    """CREATE TRIGGER IF NOT EXISTS holdfast_owners_changed AFTER UPDATE OF user_id ON holdfast_ids
        WHEN OLD.user_id IS NOT NEW.user_id
        BEGIN DELETE FROM holdfast_owners WHERE user_id = OLD.user_id AND id = OLD.id;
        INSERT OR IGNORE INTO holdfast_owners SELECT NEW.user_id, NEW.id WHERE NEW.user_id IS NOT NULL; END""",
    # Keys, as they are, of rows that are no sessions; no declared type.
    "CREATE TABLE IF NOT EXISTS holdfast_unread (session_id PRIMARY KEY)",
    "CREATE INDEX IF NOT EXISTS holdfast_ids_odd_idx ON holdfast_ids (session_id) WHERE odd = 1",
    """CREATE INDEX IF NOT EXISTS holdfast_ids_previous_digest_idx ON holdfast_ids (previous_digest)
        WHERE previous_digest IS NOT NULL""",
    # Sessions that are over. `revived`: the old application has written their row once more; they stay over.
    """CREATE TABLE IF NOT EXISTS holdfast_ended (
        id TEXT PRIMARY KEY, digest BLOB NOT NULL, previous_digest BLOB, user_id TEXT, ended_at INTEGER NOT NULL,
        end_reason TEXT NOT NULL, notified_at INTEGER, revived INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX IF NOT EXISTS holdfast_ended_digest_idx ON holdfast_ended (digest)",
    """CREATE INDEX IF NOT EXISTS holdfast_ended_previous_digest_idx ON holdfast_ended (previous_digest)
        WHERE previous_digest IS NOT NULL""",
    "CREATE INDEX IF NOT EXISTS holdfast_ended_user_id_idx ON holdfast_ended (user_id) WHERE user_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS holdfast_ended_ended_at_idx ON holdfast_ended (ended_at)",
    """CREATE TABLE IF NOT EXISTS holdfast_tickets (
        digest BLOB PRIMARY KEY, session_id TEXT NOT NULL, origin TEXT, expires_at INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS holdfast_tickets_session_id_idx ON holdfast_tickets (session_id)",
    "CREATE INDEX IF NOT EXISTS holdfast_tickets_expires_at_idx ON holdfast_tickets (expires_at)",
    # `adopted`: whether every row from before the triggers has its id. `probes` only grows, to prove that it can.
    """CREATE TABLE IF NOT EXISTS holdfast_control (
        id INTEGER PRIMARY KEY CHECK (id = 1), adopted INTEGER NOT NULL DEFAULT 0, probes INTEGER NOT NULL DEFAULT 0,
        hooks_expected_at INTEGER)""",
    "INSERT OR IGNORE INTO holdfast_control (id) VALUES (1)",
    # As in a native store: which processes of Holdfast use the file.
    """CREATE TABLE IF NOT EXISTS holdfast_processes (
        id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, follows INTEGER NOT NULL,
        seen_at INTEGER NOT NULL)""",
    # No declared type: a key keeps the type that it has in the legacy table, which may be any.
    "CREATE TABLE IF NOT EXISTS holdfast_new (seq INTEGER PRIMARY KEY, session_id)",
    "CREATE TABLE IF NOT EXISTS holdfast_gone (seq INTEGER PRIMARY KEY, session_id, user_id, expires_at)",
)
"""Made in this order, each only if it is missing."""


def is_plain(column: str) -> str:
    """Whether a column has a time as old applications write it, with a space or a T; `IS NOT 1` for all else.

    What SQLite makes of such a time is what is there already. Adding nothing makes it look at the calendar, which has
    no 30 February.
    """
    spaced = f"replace({column}, 'T', ' ')"
    return (
        f"(typeof({column}) = 'text' AND length({column}) IN (19, 26) AND substr({column}, 20, 1) IN ('', '.') "
        f"AND strftime('%Y-%m-%d %H:%M:%S', {spaced}, '+0 days') = substr({spaced}, 1, 19))"
    )


_NEW: Final = "INSERT INTO holdfast_new (session_id) VALUES (NEW.session_id);"
_GONE: Final = (
    "INSERT INTO holdfast_gone (session_id, user_id, expires_at) VALUES (OLD.session_id, OLD.user_id, OLD.expires_at);"
)

_AUTHORITY: Final = {
    "authority": "TEXT NOT NULL DEFAULT 'here'",
    "epoch": f"INTEGER NOT NULL DEFAULT {FIRST_EPOCH}",
    "store_id": "TEXT",
}
"""Whether the file accepts writes, how often that changed, and what tells it from other stores."""

TRIGGERS: Final = {
    "holdfast_new_row": f"AFTER INSERT ON sessions BEGIN {_NEW} END",
    "holdfast_gone_row": f"AFTER DELETE ON sessions BEGIN {_GONE} END",
    "holdfast_moved_row": "AFTER UPDATE OF session_id ON sessions WHEN OLD.session_id IS NOT NEW.session_id "
    f"BEGIN {_GONE} {_NEW} END",
    "holdfast_user_row": f"AFTER UPDATE OF user_id ON sessions WHEN OLD.user_id IS NOT NEW.user_id BEGIN {_NEW} END",
    "holdfast_expiry_row": "AFTER UPDATE OF expires_at ON sessions "
    f"WHEN {is_plain('OLD.expires_at')} IS NOT 1 OR {is_plain('NEW.expires_at')} IS NOT 1 BEGIN {_NEW} END",
}
"""By name. `REPLACE` fires the first one only, which is enough: the row is looked at either way."""


def install(driver: sqlite3.Connection) -> bool:
    """Make what is missing, within the transaction that has begun; whether triggers were missing.

    Then rows may have come and gone unnoticed: the caller has to look at all of them.
    """
    for statement in TABLES:
        driver.execute(statement)
    present = {name for (name,) in driver.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    # As in a native store; added, because files from before a legacy file could be moved have the table without them.
    columns = {row[1] for row in driver.execute("PRAGMA table_info(holdfast_control)")}
    for name, kind in _AUTHORITY.items():
        if name not in columns:
            driver.execute(f"ALTER TABLE holdfast_control ADD COLUMN {name} {kind}")
    driver.execute("UPDATE holdfast_control SET store_id = lower(hex(randomblob(16))) WHERE store_id IS NULL")
    missing = TRIGGERS.keys() - present
    for name in missing:
        driver.execute(f"CREATE TRIGGER {name} {TRIGGERS[name]}")
    return bool(missing)
