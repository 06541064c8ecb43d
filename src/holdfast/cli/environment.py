"""The settings of a command: its options over the environment over `.env`."""

from pathlib import Path
from typing import Any

from holdfast.settings import Settings, process_environment


def read_settings(sqlite: Path | None = None, postgres: str | None = None, **options: Any) -> Settings:
    """The settings with a command's options over them; an option that is `None` was not given.

    Either database option also says which database serves. Raises `InvalidArgument`.
    """
    environment = process_environment(_dotenv())
    if sqlite is not None:
        # DATABASE_URL may name another SQLite file, or none: the option is the whole answer.
        environment.update(HOLDFAST_SQLITE_PATH=str(sqlite), SESSION_DB_TYPE="sqlite")
        for name in ("DATABASE_URL", "DATABASE_URL_FILE", "HOLDFAST_DATABASE_URL_FILE"):
            environment.pop(name, None)
    if postgres is not None:
        environment.update(DATABASE_URL=postgres, SESSION_DB_TYPE="postgresql")
        for name in ("DATABASE_URL_FILE", "HOLDFAST_DATABASE_URL_FILE"):
            environment.pop(name, None)
    for name, value in options.items():
        if value is not None:
            environment[f"HOLDFAST_{name.upper()}"] = str(value)
    return Settings.from_environment(environment)


def _dotenv() -> dict[str, str | None]:
    """What `.env` in the current directory says; nothing when it is not there or python-dotenv is not."""
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        return {}
    # Without interpolation: a password may hold a dollar sign.
    return dotenv_values(".env", interpolate=False)
