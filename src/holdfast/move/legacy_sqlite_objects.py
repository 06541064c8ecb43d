"""What a move puts into a legacy file: tables and triggers, as text. Nothing runs here.

A trigger on the old application's table runs in the old application's process, perhaps with an old SQLite. So it is
plain SQL that only inserts a note: which row, when, by whose clock. What the note means is found out by the mover.
"""

from typing import Final

from holdfast.legacy.tables import TRIGGERS as OWN_TRIGGERS
from holdfast.move.rows import IMPORTED, SESSIONS, TICKETS
from holdfast.move.sqlite_objects import EVENTS, capture_trigger, seal_trigger

TABLES: Final = (
    # No declared type: a key keeps the type that it has in the legacy table, which may be any. `at`: in seconds;
    # `activity`: the time that the write itself put into the row.
    """CREATE TABLE IF NOT EXISTS holdfast_move_news (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, session_id, at REAL NOT NULL, activity, ours INTEGER NOT NULL)""",
    # The odd rows, as the table of that name in a native store has them. `session_key`: the row's key in the legacy
    # table; `read_at`: when it was read, on which depends what it means.
    """CREATE TABLE IF NOT EXISTS holdfast_imported (
        digest BLOB PRIMARY KEY, session_id TEXT, user_id TEXT, remarks TEXT NOT NULL, live INTEGER NOT NULL,
        original TEXT, session_key, read_at INTEGER)""",
    "CREATE INDEX IF NOT EXISTS holdfast_imported_session_key_idx ON holdfast_imported (session_key)",
    # How far the writers' own times are ahead of UTC, in seconds; how many writes said so, and when the last one did.
    """CREATE TABLE IF NOT EXISTS holdfast_move_clocks (
        lead INTEGER PRIMARY KEY, writes INTEGER NOT NULL, seen_at INTEGER NOT NULL)""",
    # `walked`: the key up to which the rows were looked at for odd ones, NULL when all were. `reading`: by
    # which zone, and what becomes of an expiry that cannot be read. `wrote_at`: when the old
    # application last wrote, in microseconds.
    """CREATE TABLE IF NOT EXISTS holdfast_move_legacy (
        id INTEGER PRIMARY KEY CHECK (id = 1), walked BLOB, reading TEXT NOT NULL, wrote_at INTEGER,
        retired INTEGER NOT NULL DEFAULT 0)""",
)
"""Made in this order, each only if it is missing."""

DROPPED: Final = ("holdfast_move_news", "holdfast_imported", "holdfast_move_clocks", "holdfast_move_legacy")
"""Taken out at the end."""

COUNT_SESSIONS: Final = (
    "SELECT (SELECT count(*) FROM holdfast_ids WHERE ?1 IS NULL OR id <= ?1) "
    "+ (SELECT count(*) FROM holdfast_ended WHERE ?1 IS NULL OR id <= ?1) "
    "- (SELECT count(*) FROM holdfast_imported o JOIN holdfast_ids i ON i.session_id = o.session_key "
    "WHERE o.session_id IS NULL AND (?1 IS NULL OR i.id <= ?1))"
)
"""How many sessions a file holds up to an id, or at all, during a move. Every id has its row, or a note that waits."""

_NOTE: Final = (
    "INSERT INTO holdfast_move_news (session_id, at, activity, ours) SELECT {row}.session_id, "
    "(julianday('now') - 2440587.5) * 86400.0, "
    "{activity}, (SELECT ours FROM holdfast_move){where};"
)
_ROW: Final = {
    "INSERT": (("NEW", "NEW.last_activity", ""),),
    "UPDATE": (
        ("OLD", "NULL", " WHERE OLD.session_id IS NOT NEW.session_id"),
        ("NEW", "CASE WHEN NEW.last_activity IS NOT OLD.last_activity THEN NEW.last_activity END", ""),
    ),
    "DELETE": (("OLD", "NULL", ""),),
}
_REFUSED: Final = "this file takes no more sessions from this application: they are moved to another store"


def triggers() -> dict[str, str]:
    """All of them by name."""
    made: dict[str, str] = {}
    for event in EVENTS:
        notes = " ".join(_NOTE.format(row=row, activity=activity, where=where) for row, activity, where in _ROW[event])
        name = f"holdfast_move_news_{event.lower()}"
        made[name] = (
            f"CREATE TRIGGER {name} AFTER {event} ON sessions WHEN (SELECT applying = 0 FROM holdfast_move) "
            f"BEGIN {notes} END"
        )
        made |= seal_trigger("sessions", event)
        name = f"holdfast_move_retire_{event.lower()}"
        made[name] = (
            f"CREATE TRIGGER {name} BEFORE {event} ON sessions "
            "WHEN (SELECT retired FROM holdfast_move_legacy) "
            "AND (SELECT NOT ours AND NOT applying FROM holdfast_move) "
            f"BEGIN SELECT RAISE(ROLLBACK, '{_REFUSED}'); END"
        )
        for table, shape, key in (
            ("holdfast_ids", SESSIONS.table, "id"),
            ("holdfast_ended", SESSIONS.table, "id"),
            (TICKETS.table, TICKETS.table, TICKETS.key),
            (IMPORTED.table, IMPORTED.table, IMPORTED.key),
        ):
            made |= capture_trigger(table, event, shape, key) | seal_trigger(table, event)
    return made


def last_seal() -> dict[str, str]:
    """What stays when all else is taken out after the move: the old application may be started again one day."""
    return {
        f"holdfast_sealed_{event.lower()}": f"CREATE TRIGGER holdfast_sealed_{event.lower()} BEFORE {event} "
        f"ON sessions BEGIN SELECT RAISE(ROLLBACK, '{_REFUSED}'); END"
        for event in EVENTS
    }


def own_triggers() -> tuple[str, ...]:
    """Those by which Holdfast serves the file."""
    return tuple(OWN_TRIGGERS)
