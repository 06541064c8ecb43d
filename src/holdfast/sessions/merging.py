"""Changing metadata without losing what others change at the same time: read, merge after RFC 7396, compare and set."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from holdfast.sessions import metadata as metadata_rules
from holdfast.sessions.errors import Overloaded
from holdfast.sessions.session import Record
from holdfast.sessions.store import Key, Store

# Of any number of parallel updates one gets through each time, so this many lost races are as many other writers.
_ATTEMPTS: Final = 100

Metadata = TypeVar("Metadata", Mapping[str, Any], Mapping[str, Any] | None)


async def merge_metadata(open_store: Callable[[], Store], key: Key | None, changes: Mapping[str, Any]) -> Record | None:
    """The updated record, or `None` when nothing live has the key. The store is asked for once the changes are good.

    Raises `InvalidArgument` for changes, or a result, that break a rule, and `Overloaded` after 100 lost races; either
    way nothing was changed.
    """
    changes = plain(changes)
    metadata_rules.merge({}, changes)
    if key is None:
        return None
    store = open_store()
    for _ in range(_ATTEMPTS):
        record = await store.get(key)
        if record is None:
            return None
        merged = metadata_rules.canonical(metadata_rules.merge(metadata_rules.decode(record.metadata), changes))
        # By id from here on: a rotation in between must not turn the update into a refusal half way.
        updated = await store.set_metadata(record.id, record.metadata_version, merged)
        if updated is not None:
            return updated
    raise Overloaded(
        f"others changed the session's metadata {_ATTEMPTS} times, each time before this update could be written; "
        "it was not made, and may be repeated after a pause"
    )


def plain(metadata: Metadata) -> Metadata:
    """Metadata as the rules for it want it: a dict. What is no mapping is theirs to refuse."""
    return dict(metadata) if isinstance(metadata, Mapping) and not isinstance(metadata, dict) else metadata
