"""From an address, or from the environment, to a store and a manager: the one place that knows all three."""

import os

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import Store, StoreOptions


def open_store(address: str | os.PathLike[str] | None, options: StoreOptions) -> Store:
    """The store at an address; `None` means the one that the environment names. Connects to nothing yet.

    A SQLite file is looked into, which changes nothing: one with an application's own `sessions` table is served as it
    is. Raises `InvalidArgument` when the address is not one, or when a package for its database is missing.
    """
    # Imported on demand, as in the package itself: the domain is of use without SQLAlchemy's import time.
    from holdfast.sql.address import SqliteAddress, parse_address
    from holdfast.sql.stores import store_at

    if address is None:
        from holdfast.settings import Settings

        address = Settings.from_environment().address()
    parsed = parse_address(address)
    if isinstance(parsed, SqliteAddress):
        from holdfast.legacy.form import has_legacy_form

        if has_legacy_form(parsed.path):
            from holdfast.legacy.store import LegacyStore
            from holdfast.legacy.zone import zone_named

            return LegacyStore(parsed, options, zone_named(options.legacy_tz))
    return store_at(address, options)


def manager_from_environment() -> SessionManager:
    """A manager with every setting of the environment."""
    from holdfast.settings import Settings

    return Settings.from_environment().manager()
