"""The groups of commands put together, and what their errors become."""

import logging
from typing import Annotated, Final

import typer

from holdfast.cli import backups, bench, db, demo, doctor, import_, move, serve, sessions
from holdfast.cli.exits import FAILURE, OK, REFUSED, CommandEnded, complain
from holdfast.sessions.errors import HoldfastError
from holdfast.version import package_version

# What a server has to say of its surroundings at each start, `holdfast doctor` says when it is asked.
_QUIET: Final = ("bench", "db", "doctor", "move", "sessions")
# What Typer ends a program with after Ctrl-C; ours have five codes.
_INTERRUPTED: Final = 130

# No pretty exceptions: they print local variables, and those hold passwords.
app = typer.Typer(
    name="holdfast",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("demo")(demo.demo)
backups.register(db.app)
import_.register(db.app)
app.add_typer(db.app, name="db")
app.add_typer(sessions.app, name="sessions")
app.add_typer(move.app, name="move")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"holdfast {package_version()}")
        raise typer.Exit


@app.callback()
def holdfast(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Keep the sessions of web applications whose users stay connected."""
    if context.invoked_subcommand in _QUIET:
        logging.getLogger("holdfast").setLevel(logging.ERROR)


def run() -> int:
    """Run one command; its exit code. A mistake in its arguments ends the process by itself, with 2."""
    try:
        app()
    except CommandEnded as ended:
        return ended.code
    except SystemExit as ended:
        if ended.code != _INTERRUPTED:
            raise
        complain("stopped")
        return FAILURE
    except HoldfastError as error:
        complain(str(error))
        return REFUSED
    except OSError as error:
        if error.strerror is None:
            raise
        complain(f"{error.filename or 'this machine'}: {error.strerror}")
        return FAILURE
    return OK
