"""From an address, or from the environment, to a store and a manager: the one place that knows all three."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import MovableStore, Store, StoreOptions, TwoStores

if TYPE_CHECKING:
    from holdfast.move.following import FollowingStore
    from holdfast.settings import Settings


def open_store(address: str | os.PathLike[str] | TwoStores | None, options: StoreOptions) -> Store:
    """The store at an address, or over the two of a move; `None` means what the environment names.

    Connects to nothing yet. A SQLite file is looked into, which changes nothing: one with an application's own
    `sessions` table is served as it is. Raises `InvalidArgument` when an address is not one, or when a package for
    its database is missing.
    """
    if address is None:
        from holdfast.settings import Settings

        address = Settings.from_environment().stores()
    return _following(address, options) if isinstance(address, TwoStores) else _at(address, options)


def store_of(settings: "Settings") -> Store:
    """The store that settings describe, as `open_store`: over both, when they name two."""
    return open_store(settings.stores(), settings.store_options())


def manager_from_environment() -> SessionManager:
    """A manager with every setting of the environment."""
    from holdfast.settings import Settings

    return Settings.from_environment().manager()


def _at(address: str | os.PathLike[str], options: StoreOptions) -> MovableStore:
    # Imported on demand, as in the package itself: the domain is of use without SQLAlchemy's import time.
    from holdfast.sql.address import SqliteAddress, parse_address
    from holdfast.sql.stores import store_at

    parsed = parse_address(address)
    if isinstance(parsed, SqliteAddress):
        from holdfast.legacy.form import has_legacy_form

        if has_legacy_form(parsed.path):
            from holdfast.legacy.store import LegacyStore
            from holdfast.legacy.zone import zone_named

            return LegacyStore(parsed, options, zone_named(options.legacy_tz))
    return store_at(address, options)


def _following(two: TwoStores, options: StoreOptions) -> "FollowingStore":
    from holdfast.move.finishing import Finisher
    from holdfast.move.following import FollowingStore
    from holdfast.sessions.errors import InvalidArgument
    from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address

    file = parse_address(two.sqlite)
    if not isinstance(file, SqliteAddress):
        raise InvalidArgument("the first of the two stores is a SQLite file")
    if not isinstance(parse_address(two.postgresql), PostgresqlAddress):
        raise InvalidArgument("the second of the two stores is a PostgreSQL database")
    half = replace(options, follows=True)
    finisher = Finisher(two.sqlite, two.postgresql, options)
    return FollowingStore(
        _at(two.sqlite, half),
        _at(two.postgresql, half),
        preferred=two.preferred,
        deadline=options.deadline,
        finish=finisher.finish,
        stale=finisher.stale,
        missing=lambda: not os.path.lexists(file.path),
    )
