"""Whether a store serves, and which of two."""

from holdfast.doctor.finding import Finding
from holdfast.move.status import StatusReader
from holdfast.sessions.errors import AuthorityMoved, HoldfastError, StoreRefused
from holdfast.sessions.store import StoreOptions, TwoStores
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.authority import refuse_left

_NAME = "authority"


async def alone(address: SqliteAddress | PostgresqlAddress, options: StoreOptions) -> Finding:
    """What a store that is named alone says of it. Raises `StoreUnavailable` when it cannot be asked."""
    try:
        await refuse_left(address, options)
    except (AuthorityMoved, StoreRefused) as error:
        what, _, remedy = str(error).partition("; ")
        return Finding(_NAME, "problem", what, remedy or None)
    return Finding(_NAME, "ok", "this store has it")


async def authority(stores: TwoStores, options: StoreOptions) -> Finding:
    """What the two say of it, and of a move between them."""
    try:
        async with StatusReader(stores.sqlite, stores.postgresql, options) as reader:
            status = await reader.read(count=False)
            strange = reader.strange
    except HoldfastError as error:
        return Finding(_NAME, "problem", str(error), "see `holdfast move status`")
    if strange is not None:
        return Finding(_NAME, "problem", strange, "see `holdfast move status`")
    if status.waiting:
        what = "a move has begun to decide which store serves, and writes wait for it"
        return Finding(_NAME, "warning", what, "`holdfast move status` says which command ends it")
    if status.move is not None:
        what = f"{status.authority or 'neither'} has it; a move is under way ({status.phase})"
        return Finding(_NAME, "notice", what, "`holdfast move status` says what comes next")
    if status.authority is not None:
        return Finding(_NAME, "ok", f"{status.authority} has it")
    what = "either store accepts writes, and no move has joined them"
    if stores.preferred is None:
        remedy = "set SESSION_DB_TYPE to the one that is to serve, or name only one: no server starts like this"
        return Finding(_NAME, "problem", what, remedy)
    remedy = f"nothing, if it is meant: SESSION_DB_TYPE={stores.preferred} says which serves until a move"
    return Finding(_NAME, "notice", what, remedy)
