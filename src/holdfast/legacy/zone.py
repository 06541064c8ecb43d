"""The zone whose local times the old application writes: this machine's, unless somebody says otherwise."""

import os
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from holdfast.sessions.errors import InvalidArgument

_LOCALTIME: Final = Path("/etc/localtime")


def zone_named(name: str | None) -> ZoneInfo:
    """The zone of an IANA name; `None` means this machine's own. Raises `InvalidArgument` for one there is not."""
    chosen = _of_this_machine() if name is None else name
    try:
        return ZoneInfo(chosen)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidArgument(
            f"there is no time zone {chosen!r}; set HOLDFAST_LEGACY_TZ to an IANA name such as Europe/Berlin"
        ) from error


def _of_this_machine() -> str:
    """By name, as the clock library does not say: from TZ, else from where /etc/localtime points."""
    named = os.environ.get("TZ", "")  # noqa: TID251 - the system's own variable, and no setting of ours
    named = named.removeprefix(":")
    if named:
        return named
    if not _LOCALTIME.exists():
        # What the system's own library takes then.
        return "UTC"
    name = str(_LOCALTIME.resolve()).partition("/zoneinfo/")[2]
    if not name:
        raise InvalidArgument(
            f"{_LOCALTIME} does not say which time zone it is; set HOLDFAST_LEGACY_TZ to the one whose local times the "
            "old application writes, by its IANA name such as Europe/Berlin"
        )
    return name
