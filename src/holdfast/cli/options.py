"""The options that several commands have, and what they may be."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from holdfast.cli.exits import USAGE, end

_SCHEME: Final = re.compile(r"\w[\w+.-]+:/", re.ASCII)
_POSTGRESQL: Final = re.compile(r"postgres(ql)?(\+\w+)?://", re.ASCII | re.IGNORECASE)


def checked_path(value: Path | None) -> Path | None:
    """A path. An address would become folders, named by the password in it, and is not repeated."""
    if value is not None and _SCHEME.match(str(value)) is not None:
        raise typer.BadParameter("it takes the path of a file; the address of a database goes with --postgres")
    return value


def checked_address(value: str | None) -> str | None:
    """An address of PostgreSQL; anything else is not repeated, it may hold a password."""
    if value is not None and _POSTGRESQL.match(value) is None:
        raise typer.BadParameter("it takes an address such as postgresql://user:password@host/name")
    return value


# Unreadable is for the store to say: with a remedy, and with the exit code that the same path has in the environment.
Sqlite = Annotated[
    Path | None,
    typer.Option(help="A SQLite file, instead of what the environment names.", callback=checked_path, readable=False),
]
Postgres = Annotated[
    str | None,
    typer.Option(
        help="The address of a PostgreSQL database, instead of what the environment names.", callback=checked_address
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Directory = Annotated[
    Path | None, typer.Option(help="The directory of backups, instead of HOLDFAST_BACKUP_DIRECTORY.", readable=False)
]

# Of a move

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
NoBackup = Annotated[
    bool,
    typer.Option(
        "--no-backup",
        help="Take no backup first: what goes wrong in both stores alike, a mistaken erasure say, is then final.",
    ),
]
IgnoreProcesses = Annotated[
    bool,
    typer.Option(
        "--ignore-processes", help="Do it although a process was seen that cannot follow: its writes are refused then."
    ),
]
LegacyZone = Annotated[
    str | None, typer.Option("--legacy-tz", help="Of a legacy file: the zone of its local times, by IANA name.")
]
TrustZone = Annotated[
    bool,
    typer.Option(
        "--trust-legacy-tz", help="Of a legacy file: that zone is right, whatever the application's writes say."
    ),
]
KeepWayBack = Annotated[
    bool,
    typer.Option(
        "--keep-legacy-way-back",
        help="Of a legacy file: keep the tokens of sessions that begin in PostgreSQL in clear until the move is over, "
        "so that after a roll-back the old application knows them too. Whoever reads them there can use them.",
    ),
]
Quiet = Annotated[
    float,
    typer.Option(min=0, help="Of a legacy file: seconds for which the old application has to have written nothing."),
]


class OnBadExpiry(StrEnum):
    """What becomes of a row whose expiry is no time."""

    QUARANTINE = "quarantine"
    EXTEND = "extend"


def refuse_both(sqlite: Path | None, postgres: str | None) -> None:
    """End the command when both databases are named where one is meant."""
    if sqlite is not None and postgres is not None:
        end(USAGE, "--sqlite and --postgres exclude each other here")
