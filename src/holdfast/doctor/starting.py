"""Whether a server would start: what it refuses at its start, looked at without starting one."""

import os

from holdfast.doctor.authority import authority
from holdfast.doctor.machine import permissions
from holdfast.legacy.form import has_legacy_form
from holdfast.move.failures import of_two
from holdfast.server.run import check_exposure
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import TwoStores
from holdfast.settings import Settings
from holdfast.sql import schema
from holdfast.sql.address import SqliteAddress, parse_address
from holdfast.sql.authority import refuse_left


async def refuse_unfit(settings: Settings) -> list[str]:
    """The stores that a server would serve from, as people read them; two, when a move is followed. Changes nothing.

    Raises what the start would raise: `InvalidArgument` for the settings, `StoreRefused` for a store that is not fit.
    Raises `StoreUnavailable` for one that is away, for which a server would wait, and `AuthorityMoved` for one that
    does not serve while a move is under way, which it would wait for too. A port that is in use is found by the start
    only.
    """
    check_exposure(settings)
    stores = settings.stores()
    named = [stores.sqlite, stores.postgresql] if isinstance(stores, TwoStores) else [stores]
    fit = [await _refuse_unfit(each, settings) for each in named]
    if not isinstance(stores, TwoStores):
        await refuse_left(parse_address(stores), settings.store_options())
    elif os.path.lexists(stores.sqlite):  # noqa: ASYNC240  # nothing else runs
        found = await authority(stores, settings.store_options())
        if found.level == "problem":
            raise StoreRefused(f"{found.what}; {found.remedy}")
    return fit


async def _refuse_unfit(store: str | os.PathLike[str], settings: Settings) -> str:
    address, options = parse_address(store), settings.store_options()
    if isinstance(address, SqliteAddress):
        for finding in permissions(address.path):
            if finding.level == "problem":
                raise StoreRefused(f"{finding.what}; {finding.remedy}")
        if has_legacy_form(address.path):
            return str(address)
        upgraded = options.upgrade is not False
    else:
        upgraded = bool(options.upgrade)
    if upgraded:
        # The start brings older tables up to date, and makes those that are not there.
        if not isinstance(address, SqliteAddress) or os.path.lexists(address.path):  # noqa: ASYNC240  # nothing else runs
            await schema.revision_at(address, options)
    else:
        try:
            await schema.require(address, options)
        except StoreRefused as refusal:
            if isinstance(settings.stores(), TwoStores):
                of_two(refusal, "SQLite" if isinstance(address, SqliteAddress) else "PostgreSQL")
            raise
    return str(address)
