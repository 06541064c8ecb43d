"""How many sockets the operating system lets this process have."""

import logging
import resource
from typing import Final

log = logging.getLogger("holdfast.server")

_MOST_KEPT: Final = 200
_LEAST_KEPT: Final = 32


def room_for_sockets(wanted: int) -> int:
    """How many sockets there may be, at most `wanted`, so that files and the store's connections find handles too.

    The soft limit on open files is raised first, as far as the hard one allows. A socket more than the handles are
    enough for could not be refused any more, only left waiting.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _MOST_KEPT
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    room = max(1, soft - min(_MOST_KEPT, max(_LEAST_KEPT, soft // 4)))
    log.warning("the limit on open files (%d) leaves room for %d sockets, not %d; raise it", soft, room, wanted)
    return room
