"""`holdfast sessions`: what an operator does with sessions, by id. Only `create` ever shows a token."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, cast
from uuid import UUID

import typer

from holdfast.cli import statistics
from holdfast.cli.exits import DIFFERENT, USAGE, complain, end
from holdfast.cli.options import AsJson, Postgres, Sqlite, Yes
from holdfast.cli.output import confirm, print_facts, print_json, print_table
from holdfast.cli.stores import ask
from holdfast.sessions.session import EndReason, Session
from holdfast.sessions.tokens import SECRET_PATTERN

app = typer.Typer(no_args_is_help=True, help="Look at sessions, begin and end them. By id, never by token.")
statistics.register(app)

Id = Annotated[str, typer.Argument(help="The session's id, as `list` shows it; never its token.")]
User = Annotated[str | None, typer.Option(help="Only this user's.")]

_COLUMNS: Final = ("id", "user_id", "created_at", "expires_at", "last_activity", "request_count")


@app.command()
def create(
    user: Annotated[str | None, typer.Option(help="Whose it is; an anonymous visitor's without it.")] = None,
    metadata: Annotated[str | None, typer.Option(help="What it holds: a JSON object.")] = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Begin a session; prints its token, which nothing shows again. Makes a SQLite store that is not there yet.

    Example: holdfast sessions create --user u1 --metadata '{"device": "phone"}'
    """
    owner, held = _user(user), _metadata(metadata)
    new = ask(sqlite, postgres, lambda manager: manager.create_session(owner, held), make=True)
    facts = {"id": new.id, "token": new.token, "expires_at": new.expires_at}
    print_json(facts) if as_json else print_facts(facts)


@app.command()
def show(id: Id, sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Show a live session, and touch nothing. Exit code 3 when it is not live.

    Example: holdfast sessions show 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b
    """
    checked = _checked(id)
    session = ask(sqlite, postgres, lambda manager: manager.get_by_id(checked))
    if session is None:
        end(DIFFERENT, "there is no live session with this id")
    print_json(asdict(session)) if as_json else print_facts(asdict(session))


@app.command("list")
def list_(
    user: User = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    after: Annotated[str | None, typer.Option(help="Begin after this id: the last one of the page before.")] = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """List live sessions, in order of their creation. Their ids have the same order.

    Example: holdfast sessions list --user u1
    """
    start, owner = None if after is None else _checked(after), _user(user)
    found = ask(sqlite, postgres, lambda manager: manager.list_sessions(owner, limit, start))
    if as_json:
        print_json([asdict(session) for session in found])
        return
    print_table(_COLUMNS, [_row(session) for session in found])
    if len(found) == limit:
        complain(f"there may be more: add --after {found[-1].id}")


@app.command()
def extend(
    id: Id,
    hours: Annotated[float, typer.Option(help="How many hours from now, but never past the longest lifetime.")] = 24,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Let a session live longer; prints when it expires now. Exit code 3 when it is not live.

    Example: holdfast sessions extend 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b --hours 8
    """
    checked = _checked(id)
    expires_at = ask(sqlite, postgres, lambda manager: manager.extend_by_id(checked, hours))
    if expires_at is None:
        end(DIFFERENT, "there is no live session with this id")
    facts = {"id": checked, "expires_at": expires_at}
    print_json(facts) if as_json else print_facts(facts)


@app.command("end")
def end_(
    id: Annotated[str | None, typer.Argument(help="The session's id; or give --user.")] = None,
    user: Annotated[str | None, typer.Option(help="All sessions of this user instead of one.")] = None,
    keep: Annotated[str | None, typer.Option(help="With --user: all but the session with this id.")] = None,
    reason: Annotated[str, typer.Option(help="Why: revoked, evicted, expired or idle.")] = "revoked",
    yes: Yes = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """End one session, or all of a user. Logged out at once, everywhere. Exit code 3 when there was nothing to end.

    Example: holdfast sessions end --user u1 --yes
    """
    if (id is None) == (user is None) or (keep is not None and user is None):
        end(USAGE, "give the id of one session, or --user, which --keep may follow")
    count = _ended_of_user(sqlite, postgres, user, keep, reason, yes=yes) if user is not None else 0
    if id is not None:
        checked, why = _checked(id), _reason(reason)
        confirm(f"End the session {checked}?", yes=yes)
        count = int(ask(sqlite, postgres, lambda manager: manager.end_session(checked, why)))
    if as_json:
        print_json({"ended": count})
    else:
        typer.echo(count)
    if not count:
        end(DIFFERENT, "there was no live session to end")


@app.command()
def count(sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Print how many sessions are live. Exact.

    Example: holdfast sessions count
    """
    live = ask(sqlite, postgres, lambda manager: manager.get_active_session_count())
    print_json({"live": live}) if as_json else typer.echo(live)


@app.command()
def cleanup(sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Remove all expired sessions now; prints how many. A server's sweep does it little by little.

    Example: holdfast sessions cleanup
    """
    removed = ask(sqlite, postgres, lambda manager: manager.cleanup_expired_sessions())
    print_json({"removed": removed}) if as_json else typer.echo(removed)


def _ended_of_user(
    sqlite: Path | None, postgres: str | None, user: str, keep: str | None, reason: str, *, yes: bool
) -> int:
    if reason != "revoked":
        end(USAGE, "all sessions of a user are revoked; --reason is for a single one")
    _user(user)
    kept = None if keep is None else _checked(keep)
    confirm(f"End all sessions of {user!r}{'' if kept is None else f' but {kept}'}?", yes=yes)
    return ask(sqlite, postgres, lambda manager: manager.revoke_user_sessions(user, kept))


def _checked(id: str) -> str:
    """An id; anything else, a token above all, is refused and not repeated."""
    try:
        return str(UUID(id))
    except ValueError:
        end(USAGE, "that is no id: an id is what `holdfast sessions list` shows; a token is never an argument")


def _user(user: str | None) -> str | None:
    """A user id. A token in its place is refused and not repeated, by a question above all."""
    if user is not None and re.fullmatch(SECRET_PATTERN, user) is not None:
        end(USAGE, "that is a token, not a user's id; a token is never an argument")
    return user


def _metadata(text: str | None) -> dict[str, Any] | None:
    """The object that a text is. What it holds is not repeated where it is none: it may be a secret."""
    if text is None:
        return None
    try:
        held = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        end(USAGE, """--metadata is a JSON object with each key once, such as '{"device": "phone"}'""")
    return held


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(held := dict(pairs)) != len(pairs):
        raise ValueError
    return held


def _reason(reason: str) -> EndReason:
    if reason not in ("revoked", "evicted", "expired", "idle"):
        end(USAGE, "a reason is one of revoked, evicted, expired, idle")
    return cast("EndReason", reason)


def _row(session: Session) -> list[Any]:
    return [getattr(session, column) for column in _COLUMNS]
