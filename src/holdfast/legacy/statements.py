"""Every statement on a legacy file: a name and a sentence each. Nothing runs here.

They are text for the driver and not built by SQLAlchemy, because the legacy table is not one of ours: what its columns
hold is found out row by row. Times of Holdfast's own tables are whole microseconds since 1970.
"""

import sqlite3
from typing import Final

from holdfast.legacy.tables import is_plain
from holdfast.sessions.store import FIRST_EPOCH, Held

_ROW: Final = (
    "i.session_id, i.id, i.digest, i.previous_digest, i.replaced_at, "
    "s.session_id, s.user_id, s.metadata, s.created_at, s.expires_at, s.last_activity, s.request_count"
)
_ROWS: Final = f"SELECT {_ROW} FROM holdfast_ids i JOIN sessions s ON s.session_id = i.session_id"  # noqa: S608 - our own names

NOW: Final = "SELECT CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000"
"""The clock, to the millisecond, as in the native store."""

_CONTROLS: Final = "SELECT count(*) FROM pragma_table_info('holdfast_control') WHERE name = 'authority'"
_SERVED: Final = "SELECT count(*) FROM sqlite_master WHERE name IN ('holdfast_ids', 'holdfast_ended')"
_HELD: Final = "SELECT authority, epoch FROM holdfast_control WHERE id = 1"
_MOVING: Final = "SELECT count(*) FROM pragma_table_info('holdfast_move') WHERE name = 'ours'"


def is_controlled(driver: sqlite3.Connection) -> bool:
    """Whether the file says which store holds the authority."""
    return bool(driver.execute(_CONTROLS).fetchone()[0])


def held(driver: sqlite3.Connection) -> Held:
    """The file's authority. Its own before Holdfast has made its tables there."""
    if not is_controlled(driver):
        return Held("here", FIRST_EPOCH)
    row = driver.execute(_HELD).fetchone()
    return Held("here", FIRST_EPOCH) if row is None else Held._make(row)


def is_served(driver: sqlite3.Connection) -> bool:
    """Whether Holdfast has its own tables beside the legacy one."""
    return bool(driver.execute(_SERVED).fetchone()[0] == 2)


def is_moving(driver: sqlite3.Connection) -> bool:
    """Whether a move of the file is under way, which notes what is written."""
    return bool(driver.execute(_MOVING).fetchone()[0])


# Serving

IS_ADOPTED: Final = "SELECT adopted FROM holdfast_control WHERE id = 1"
"""Whether every row from before the triggers has been looked at."""
SET_ADOPTED: Final = "UPDATE holdfast_control SET adopted = ? WHERE id = 1"
"""Note that they have been, or that all rows are to be looked at anew."""
SET_OURS: Final = "UPDATE holdfast_move SET ours = ? WHERE id = 1"
"""Tell the capture of a move that our own writes follow, which it lets pass, or that they are over."""
PROBE: Final = "UPDATE holdfast_control SET probes = probes + 1 WHERE id = 1"
"""A write that nobody reads, but which must reach the disk."""

# Looking

BY_ID: Final = f"{_ROWS} WHERE i.id = ?"
"""The session with an id, live or not."""
BY_TOKEN: Final = f"{_ROWS} WHERE i.session_id = ?"
"""The session of a token."""
BY_DIGEST: Final = f"{_ROWS} WHERE i.digest = ? AND i.session_id >= 'holdfast-' AND i.session_id < 'holdfast.'"
"""The session that a digest is the present one of, where a move back has left it without its token."""
BY_ANY_DIGEST: Final = f"{_ROWS} WHERE i.digest = ?"
"""The session that a digest is the present one of: a search of all, for a digest that comes without its token."""
BY_PREVIOUS: Final = f"{_ROWS} WHERE i.previous_digest = ?"
"""The session that a digest was the previous one of."""
_OF_USER: Final = (
    f"SELECT {_ROW} FROM holdfast_owners o JOIN holdfast_ids i ON i.id = o.id "  # noqa: S608 - our own names
    "JOIN sessions s ON s.session_id = i.session_id WHERE o.user_id = ?"
)
BY_USER: Final = f"{_OF_USER} ORDER BY o.id"
"""All sessions of a user."""
PAGE: Final = f"{_ROWS} WHERE i.id > ? ORDER BY i.id LIMIT ?"
"""Some sessions in order of id."""
PAGE_OF_USER: Final = f"{_OF_USER} AND o.id > ? ORDER BY o.id LIMIT ?"
"""Some sessions of a user in order of id."""
# A number of seconds since 1970, or of milliseconds: `times.py` tells them apart by the same bound.
_NO_NUMBER_TO_COME: Final = (
    "(typeof(s.expires_at) NOT IN ('integer', 'real') "
    "OR CASE WHEN s.expires_at < 1e11 THEN s.expires_at ELSE s.expires_at / 1000.0 END <= :seconds)"
)
DUE: Final = f"{_ROWS} WHERE s.expires_at <= :text AND {_NO_NUMBER_TO_COME} ORDER BY s.expires_at"
"""Sessions whose expiry, as text, is not after a local time; of the numbers, which come before every text, the past."""
DUE_OR_IDLE: Final = (
    f"{_ROWS} WHERE (s.expires_at <= :text AND {_NO_NUMBER_TO_COME}) OR s.last_activity <= :idle ORDER BY s.expires_at"
)
"""As `DUE`, and those whose activity is not after another local time."""

# Texts of the usual form compare as their times do, so that the index of the expiry is all that is read. A T comes
# after the space that is there otherwise: of the rows of today that have one, those that are over count too much.
# The plus and the cross joins keep SQLite from reading all rows for the few that the last parts are about.
_COUNTED: Final = (
    "(+s.expires_at > :text AND NOT (+s.expires_at > substr(:text, 1, 10) || 'T' "
    "AND +s.expires_at <= substr(:text, 1, 10) || 'T' || substr(:text, 12)))"
)
COUNT: Final = (
    "SELECT (SELECT count(*) FROM sessions s WHERE s.expires_at > :text) "  # noqa: S608 - our own names
    "- (SELECT count(*) FROM sessions s WHERE s.expires_at > substr(:text, 1, 10) || 'T' "
    "AND s.expires_at <= substr(:text, 1, 10) || 'T' || substr(:text, 12)) "
    "- (SELECT count(*) FROM holdfast_ids i CROSS JOIN sessions s ON s.session_id = i.session_id "
    f"WHERE i.odd = 1 AND {_COUNTED}) "
    f"- (SELECT count(*) FROM holdfast_unread u CROSS JOIN sessions s ON s.session_id = u.session_id WHERE {_COUNTED}) "
    f"- (SELECT count(*) FROM sessions s WHERE (s.session_id IS NULL OR s.session_id >= x'') AND {_COUNTED})"
)
"""How many rows run out after a local time, but for those that need a closer look, or are no sessions."""
ODD: Final = f"{_ROWS} WHERE i.odd = 1"
"""The sessions that only a closer look can tell about."""

# Changing the legacy table: always one row, by its key, after it was read in the same transaction

TOUCH: Final = "UPDATE sessions SET request_count = ?, last_activity = ? WHERE session_id = ?"
"""Count activities of a session that was found live."""
EXTEND: Final = "UPDATE sessions SET expires_at = ? WHERE session_id = ?"
"""Move the expiry of a session that was found live."""
MERGE: Final = "UPDATE sessions SET metadata = ? WHERE session_id = ?"
"""Replace the metadata of a session that was found live, with the metadata that its writer had read."""
ROTATE: Final = "UPDATE sessions SET session_id = ? WHERE session_id = ?"
"""Give a session that was found live another token."""
ROTATE_ID: Final = (
    "UPDATE holdfast_ids SET session_id = ?, digest = ?, previous_digest = digest, replaced_at = ? WHERE session_id = ?"
)
"""The same beside it."""
CREATE: Final = (
    "INSERT INTO sessions (session_id, user_id, metadata, created_at, expires_at, last_activity, request_count) "
    "VALUES (?, ?, ?, ?, ?, ?, 0)"
)
"""Begin a session, in the old application's own form."""
DELETE: Final = "DELETE FROM sessions WHERE session_id = ?"
"""End a session in the old application too."""
DELETE_OF_USER: Final = "DELETE FROM sessions WHERE user_id = ?"
"""Erase a user's rows, those that Holdfast cannot read among them."""

# Adopting

ADOPT: Final = "INSERT OR IGNORE INTO holdfast_ids (session_id, id, digest, user_id, odd) VALUES (?, ?, ?, ?, ?)"
"""Give a legacy row its id."""
SET_USER: Final = "UPDATE holdfast_ids SET user_id = ?, odd = ? WHERE session_id = ?"
"""Note whose a row is now, and whether it is odd."""
UNREAD: Final = "INSERT OR IGNORE INTO holdfast_unread (session_id) VALUES (CAST(? AS TEXT))"
"""Note a row that is no session by its key, which may be given as the bytes of a text that is not UTF-8."""
UNREAD_NEW: Final = (
    "INSERT OR IGNORE INTO holdfast_unread SELECT session_id FROM holdfast_new WHERE seq = ? "
    "AND typeof(session_id) = 'text'"
)
"""The same for a row that was inserted: a key that is no text is left out, because it is found without a note."""
READ: Final = "DELETE FROM holdfast_unread WHERE session_id = ?"
"""Take that note away."""
ADOPT_MANY: Final = (
    "INSERT INTO holdfast_ids (session_id, id, digest, user_id, odd) SELECT ?1, ?2, ?3, ?4, 0 WHERE EXISTS "
    "(SELECT 1 FROM sessions WHERE session_id = ?1 AND user_id IS ?4) ON CONFLICT (session_id) DO UPDATE "
    "SET user_id = excluded.user_id, odd = 0 WHERE user_id IS NOT excluded.user_id OR odd <> 0"
)
"""Give a row its id, if it is as it was a moment ago; else the triggers have noted it."""
SORT_SOME: Final = (
    "INSERT INTO temp.holdfast_sorting SELECT user_id, id FROM holdfast_ids "
    "WHERE rowid > ? AND rowid <= ? AND user_id IS NOT NULL"
)
"""Copy whose some rows are to where they are sorted; they are taken in the order in which they got their ids."""
OWN_SOME: Final = (
    "INSERT OR IGNORE INTO holdfast_owners SELECT i.user_id, i.id FROM temp.holdfast_sorted t "
    "CROSS JOIN holdfast_ids i ON i.id = t.id AND i.user_id = t.user_id WHERE t.rowid > ? AND t.rowid <= ?"
)
"""Note whose some rows are, in the order of the users, if they still are."""
OLD_ROW: Final = f"SELECT user_id, {is_plain('expires_at')} IS NOT 1 FROM sessions WHERE session_id = ?"  # noqa: S608 - our own names
"""Whether there is a legacy row; whose, and whether its expiry is odd."""
OLD_ROWS: Final = (
    f"SELECT session_id, user_id, {is_plain('expires_at')} IS NOT 1 FROM sessions "  # noqa: S608 - our own names
    "WHERE session_id > CAST(? AS TEXT) AND session_id < x'' "
    "ORDER BY session_id LIMIT ?"
)
"""Some legacy rows in order of their keys, after one that is given as bytes: it need not be UTF-8."""
IS_REFUSED: Final = (
    "SELECT 1 FROM holdfast_ended WHERE ?1 IN (digest, previous_digest) "
    "UNION ALL SELECT 1 FROM holdfast_ids WHERE previous_digest = ?1 LIMIT 1"
)
"""Whether a digest is one that was ended or replaced: a row that has it is not adopted again."""
ALL_REFUSED: Final = (
    "SELECT digest FROM holdfast_ended UNION SELECT previous_digest FROM holdfast_ended "
    "WHERE previous_digest IS NOT NULL "
    "UNION SELECT previous_digest FROM holdfast_ids WHERE previous_digest IS NOT NULL"
)
"""Every such digest."""
REVIVE: Final = "UPDATE holdfast_ended SET revived = ? WHERE digest = ?"
"""Keep the trace of an end for as long as the old application has a row of that token."""
NEW: Final = "SELECT seq, session_id FROM holdfast_new ORDER BY seq LIMIT ?"
"""Keys of rows that were inserted, oldest first."""
GONE: Final = "SELECT seq, session_id, user_id, expires_at FROM holdfast_gone ORDER BY seq LIMIT ?"
"""What rows held that were deleted, oldest first."""
BACKLOG: Final = (
    "SELECT (SELECT count(*) FROM (SELECT 1 FROM holdfast_new LIMIT ?1)) "
    "+ (SELECT count(*) FROM (SELECT 1 FROM holdfast_gone LIMIT ?1))"
)
"""How many such notes there are, up to a bound."""
ORPHANS: Final = (
    "INSERT INTO holdfast_gone (session_id) SELECT session_id FROM holdfast_ids i "
    "WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = i.session_id)"
)
"""Note what went unnoticed, while the triggers were not there."""
ORPHANS_AMONG: Final = (
    "INSERT INTO holdfast_gone (session_id) SELECT session_id FROM holdfast_ids i "
    "WHERE session_id > CAST(?1 AS TEXT) AND (?2 IS NULL OR session_id <= CAST(?2 AS TEXT)) "
    "AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = i.session_id)"
)
"""The same for some of the keys, between two that are given as bytes; `NULL` for no end."""
EVERY_ROW: Final = "INSERT INTO holdfast_new (session_id) SELECT session_id FROM sessions"
"""Note every row as new: somebody has made the table anew."""

# Ends

ID_OF: Final = "SELECT id, digest, previous_digest, user_id FROM holdfast_ids WHERE session_id = ?"
"""What is known of a row that is there no more."""
FORGET: Final = "DELETE FROM holdfast_ids WHERE session_id = ?"
"""Take away what stands beside a row."""
BURY: Final = (
    "INSERT OR IGNORE INTO holdfast_ended (id, digest, previous_digest, user_id, ended_at, end_reason) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
"""Keep the trace of an end."""
_END: Final = "SELECT id, user_id, end_reason, ended_at FROM holdfast_ended"
END_OF: Final = f"{_END} WHERE id = ?"
"""How a session ended."""
ENDS: Final = "SELECT ended_at, user_id FROM holdfast_ended"
"""When every session ended whose trace is kept, and whose it was."""
WHY: Final = (
    "SELECT digest = ?1, end_reason FROM holdfast_ended WHERE ?1 IN (digest, previous_digest) ORDER BY 1 DESC LIMIT 1"
)
"""How the session of a digest ended, and whether the digest was its last one."""
JUST_ENDED: Final = "SELECT id FROM holdfast_ended WHERE ended_at > ? LIMIT ?"
"""Some of the sessions that ended after a time."""
UNTOLD: Final = f"{_END} WHERE ended_at <= ? AND notified_at IS NULL ORDER BY ended_at LIMIT ?"
"""The oldest ends that no hook has heard of, from before a time."""
TOLD: Final = "UPDATE holdfast_ended SET notified_at = ? WHERE id = ? AND notified_at IS NULL"
"""Note that a hook has heard of an end."""
EXPECT_HOOKS: Final = "UPDATE holdfast_control SET hooks_expected_at = ? WHERE id = 1"
"""Note that a process with an end hook uses this file."""
DELETE_ENDED: Final = (
    "DELETE FROM holdfast_ended WHERE id IN (SELECT id FROM holdfast_ended WHERE ended_at <= ? AND revived = 0 "
    "AND end_reason IN (SELECT value FROM json_each(?)) AND (notified_at IS NOT NULL OR NOT EXISTS "
    "(SELECT 1 FROM holdfast_control WHERE hooks_expected_at > ?)) ORDER BY ended_at LIMIT ?)"
)
"""Delete traces of ends past their retention, once told if anybody is to be told."""
ERASE_ENDED: Final = "DELETE FROM holdfast_ended WHERE user_id = ?"
"""Erase a user's traces."""
ERASE_IDS: Final = (
    "DELETE FROM holdfast_ids WHERE user_id = ?1 AND id IN (SELECT id FROM holdfast_owners WHERE user_id = ?1)"
)
"""Erase what stands beside a user's rows."""
ERASE_NOTES: Final = "DELETE FROM holdfast_gone WHERE user_id = ?"
"""Erase what the triggers noted of a user."""

# Tickets

CREATE_TICKET: Final = "INSERT INTO holdfast_tickets (digest, session_id, origin, expires_at) VALUES (?, ?, ?, ?)"
"""Keep a ticket for a session that was found live."""
TAKE_TICKET: Final = "DELETE FROM holdfast_tickets WHERE digest = ? RETURNING session_id, origin, expires_at"
"""Use a ticket up."""
DELETE_TICKETS: Final = (
    "DELETE FROM holdfast_tickets WHERE digest IN "
    "(SELECT digest FROM holdfast_tickets WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
)
"""Delete some tickets past their time."""
ERASE_TICKETS: Final = (
    "DELETE FROM holdfast_tickets WHERE session_id IN "
    "(SELECT i.id FROM holdfast_owners o JOIN holdfast_ids i ON i.id = o.id AND i.user_id = o.user_id "
    "WHERE o.user_id = ?)"
)
"""Erase a user's tickets."""
FORGET_TICKETS: Final = "DELETE FROM holdfast_tickets WHERE session_id = ?"
"""Delete the tickets of a session that is over."""
