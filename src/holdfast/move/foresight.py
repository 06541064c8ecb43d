"""The steps that a command would take from where a move stands, in words: for a dry run. Pure."""

from collections.abc import Iterator
from typing import Literal

from holdfast.move.state import NO_MOVE, OVER, Look, MoveRefused

Goal = Literal["start", "verify", "seal", "cutover", "rollback", "complete", "abort"]

_SQLITE = "a backup of the SQLite file"
_CATCH_UP = "apply what was written in SQLite meanwhile to PostgreSQL"
_TAKE_BACK = "take what was written in PostgreSQL meanwhile to SQLite"
_FIRST = "bring that to its end first, by the command it was begun with"
_COMPARE = "compare all rows of both stores; go no further if any differs"


def steps_ahead(goal: Goal, look: Look, *, backups: bool) -> list[str]:
    """What would be done, in order; empty when there is nothing to do.

    Raises `MoveRefused` where the command would be refused for where the move stands.
    """
    if look.postgresql.phase is None:
        return list(_without_move(goal, look, backups))
    return [*_finishing(goal, look), *_from_rest(goal, look, backups)]


def _without_move(goal: Goal, look: Look, backups: bool) -> Iterator[str]:
    moved = look.sqlite.authority != "here"
    match goal:
        case "start":
            if moved:
                raise MoveRefused(OVER)
            if backups:
                yield _SQLITE
            yield "close PostgreSQL to clients, and make the tables of the move in it"
            yield from _copying()
            yield _CATCH_UP
        case "complete":
            if not moved:
                raise MoveRefused(NO_MOVE)
        case "abort":
            if moved:
                raise MoveRefused(OVER)
        case "cutover" | "verify" | "seal" | "rollback":
            raise MoveRefused(OVER if moved else NO_MOVE)


def _copying() -> Iterator[str]:
    yield "put triggers into the SQLite file that note which rows are written"
    yield "copy all rows to PostgreSQL, a stretch at a time, and stand back while SQLite is slow"


def _finishing(goal: Goal, look: Look) -> Iterator[str]:
    """What was begun and not ended comes first."""
    match look.sqlite.authority, look.postgresql.phase:
        case (("here" | "pending"), "cutting") if goal == "abort":
            yield "call the cut-over off that was begun: SQLite accepts writes"
        case _, "cutting":
            yield "bring the cut-over that was begun to its end, or call it off if it took too long"
        case _, "returning":
            yield "bring the roll-back that was begun to its end, or call it off if it took too long"
        case _, "returned":
            yield "bring the roll-back that was begun to its end"
        case _, "aborting" | "completing" if goal not in ("abort", "complete"):
            yield "bring the end of the move that was begun to its own end; no move is under way then"
        case "here", "preparing" | "copying" if goal not in ("abort", "complete"):
            yield from _copying()


def _from_rest(goal: Goal, look: Look, backups: bool) -> Iterator[str]:
    """What follows once the move rests: before the cut-over, or after it."""
    phase = look.postgresql.phase
    there = look.sqlite.authority == "there" and phase not in ("returning", "returned")
    match goal:
        case "start":
            if there and look.postgresql.changed:
                yield _TAKE_BACK
            elif phase in ("preparing", "copying") or (
                phase == "following" and look.postgresql.cursor != look.sqlite.head
            ):
                yield _CATCH_UP
        case "verify":
            yield _TAKE_BACK if there else _CATCH_UP
            yield "compare all rows of both stores, and note the result"
        case "seal" if not there:
            yield _CATCH_UP
            yield "refuse the old application's writes from now on, and take Holdfast's own"
        case "cutover" if not there:
            yield _COMPARE
            if backups:
                yield _SQLITE
            yield _CATCH_UP
            yield "SQLite stops accepting writes: clients wait"
            yield "apply the last writes, and compare all rows written since"
            yield "SQLite gives the authority up: this decides it"
            yield "PostgreSQL accepts writes: clients go on there; what they write is noted, for the way back"
        case "rollback" if there:
            yield _COMPARE
            if backups:
                yield "a backup of PostgreSQL"
            yield _TAKE_BACK
            yield "PostgreSQL stops accepting writes: clients wait"
            yield "take the last writes to SQLite"
            yield "PostgreSQL gives the authority up: this decides it"
            yield "SQLite accepts writes: clients go on there, and PostgreSQL follows again"
        case "complete":
            if phase in ("returning", "returned") or (there and phase == "cutting"):
                raise MoveRefused(f"the move is {phase}: {_FIRST}")
            if not there and phase != "completing":
                raise MoveRefused(f"the move is {phase}: cut over before you complete it, or abort it")
            yield "take the move's tables and triggers out of both stores: there is no way back after this"
            yield "the SQLite file stays, and takes no more writes"
        case "abort":
            if phase in ("returning", "returned", "completing"):
                raise MoveRefused(f"the move is {phase}: {_FIRST}")
            if there and phase != "aborting":
                raise MoveRefused(f"the move is {phase}: roll back before you abort it")
            yield "take the move's tables and triggers out of both stores"
            yield "delete the copies of the sessions in PostgreSQL, which stays closed to clients"
