"""What a move puts into a SQLite file: tables and triggers, as text. Nothing runs here.

Two sets of triggers. Capture notes the key of every row that is written; seal refuses writes, whoever sends them, once
the file has given its authority up. Both leave the mover alone while it says within its own transaction that it is at
work: no other connection ever sees it say so. They look at the move's own table only, so that a migration may rebuild
any other one.
"""

from typing import Final

from holdfast.move.rows import SHAPES

EVENTS: Final = ("INSERT", "UPDATE", "DELETE")

_MOVE: Final = (
    "CREATE TABLE IF NOT EXISTS holdfast_move (id INTEGER PRIMARY KEY CHECK (id = 1), move TEXT NOT NULL, "
    "capture TEXT NOT NULL, token INTEGER NOT NULL, flips INTEGER NOT NULL DEFAULT 0, "
    "sealed INTEGER NOT NULL DEFAULT 0, applying INTEGER NOT NULL DEFAULT 0, "
    "ours INTEGER NOT NULL DEFAULT 0)"
)
_LOG: Final = (
    "CREATE TABLE IF NOT EXISTS holdfast_move_log "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, shape TEXT NOT NULL, key NOT NULL)"
)
TABLES: Final = (_MOVE, _LOG)
"""Made in this order, each only if it is missing."""


def native_triggers() -> dict[str, str]:
    """All triggers in a file of Holdfast's own form, by name."""
    made: dict[str, str] = {}
    for table, shape in SHAPES.items():
        for event in EVENTS:
            made |= capture_trigger(table, event, shape.table, shape.key) | seal_trigger(table, event)
    return made


def capture_trigger(table: str, event: str, shape: str, key: str) -> dict[str, str]:
    """A trigger, under its name, that notes which row of a shape an event in a table changes, by the key's column."""
    # An update that changes the key concerns two rows.
    olds = ("OLD", "NEW") if event == "UPDATE" else ("OLD",) if event == "DELETE" else ("NEW",)
    rest = f" WHERE OLD.{key} IS NOT NEW.{key}" if event == "UPDATE" else ""
    notes = "".join(
        f"INSERT INTO holdfast_move_log (shape, key) SELECT '{shape}', {row}.{key}{rest if row == 'OLD' else ''}; "
        for row in olds
    )
    name = f"holdfast_move_capture_{table.removeprefix('holdfast_')}_{event.lower()}"
    return {
        name: f"CREATE TRIGGER {name} AFTER {event} ON {table} "
        f"WHEN (SELECT applying = 0 FROM holdfast_move) BEGIN {notes}END"
    }


def seal_trigger(table: str, event: str, when: str = "sealed AND NOT applying") -> dict[str, str]:
    """A trigger, under its name, that refuses an event in a table."""
    name = f"holdfast_move_seal_{table.removeprefix('holdfast_')}_{event.lower()}"
    return {
        name: f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN (SELECT {when} FROM holdfast_move) BEGIN "
        "SELECT RAISE(ROLLBACK, 'this file does not accept writes: its sessions are moved'); END"
    }
