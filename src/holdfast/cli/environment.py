"""The settings of a command: its options over the environment over `.env`."""

from pathlib import Path
from typing import Any

from holdfast.sessions.errors import InvalidArgument
from holdfast.settings import Settings, process_environment


def read_settings(sqlite: Path | None = None, postgres: str | None = None, **options: Any) -> Settings:
    """The settings with a command's options over them; an option that is `None` was not given.

    One database option is the whole answer; both name the two stores of a move. Raises `InvalidArgument`.
    """
    environment = process_environment(_dotenv())
    if sqlite is not None or postgres is not None:
        # The environment may name another file or database, or both: what the options say replaces all of it.
        for name in ("DATABASE_URL", "DATABASE_URL_FILE", "HOLDFAST_DATABASE_URL_FILE", "HOLDFAST_SQLITE_PATH"):
            environment.pop(name, None)
        if sqlite is None or postgres is None:
            environment["SESSION_DB_TYPE"] = "postgresql" if sqlite is None else "sqlite"
    if sqlite is not None:
        environment["HOLDFAST_SQLITE_PATH"] = str(sqlite)
    if postgres is not None:
        environment["DATABASE_URL"] = postgres
    for name, value in options.items():
        if value is not None:
            environment[f"HOLDFAST_{name.upper()}"] = str(value)
    return Settings.from_environment(environment)


def _dotenv() -> dict[str, str | None]:
    """What `.env` in the current directory says; nothing when it is not there or python-dotenv is not.

    Raises `InvalidArgument` when it is no text.
    """
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        return {}
    try:
        # Without interpolation: a password may hold a dollar sign.
        return dotenv_values(".env", interpolate=False)
    except UnicodeDecodeError:
        raise InvalidArgument("the file .env in this folder is not UTF-8; save it as that, or remove it") from None
