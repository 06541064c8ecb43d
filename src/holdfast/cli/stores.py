"""The store that a command is about, and what is refused before anything opens it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import REFUSED, USAGE, end
from holdfast.cli.options import refuse_both
from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import TwoStores

if TYPE_CHECKING:
    from holdfast.settings import Settings

Answer = TypeVar("Answer")


def ask(
    sqlite: Path | None,
    postgres: str | None,
    question: Callable[[SessionManager], Awaitable[Answer]],
    *,
    make: bool = False,
) -> Answer:
    """What one manager answers, opened for this and without a sweep of its own.

    A SQLite file that is not there, or not up to date, ends the command: a path with a mistake in it must not become
    an empty store, nor a look at a file change its tables. With `make` a missing one is made.
    """
    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres, sweep_interval_seconds="none")
    manager = settings.manager()

    async def asking() -> Answer:
        await _refuse_unfit(settings, make=make)
        async with manager:
            try:
                return await question(manager)
            except InvalidArgument as mistake:
                end(USAGE, str(mistake))

    return asyncio.run(asking())


async def _refuse_unfit(settings: "Settings", *, make: bool) -> None:
    from holdfast.legacy.form import has_legacy_form
    from holdfast.move.failures import of_two
    from holdfast.sql import schema
    from holdfast.sql.address import SqliteAddress, parse_address

    stores = settings.stores()
    address = parse_address(stores.sqlite if isinstance(stores, TwoStores) else stores)
    if not isinstance(address, SqliteAddress):
        return
    if not os.path.lexists(address.path):  # noqa: ASYNC240  # nothing else runs
        # Beside PostgreSQL an empty one would be a second store that nobody asked for.
        if not make or isinstance(stores, TwoStores):
            end(REFUSED, f"there is no file {address.path}; check the path, or make a store with `holdfast db upgrade`")
    elif not has_legacy_form(address.path):
        try:
            await schema.require(address, settings.store_options())
        except StoreRefused as refusal:
            if isinstance(stores, TwoStores):
                of_two(refusal, "SQLite")
            raise
