"""How many sockets one process may have open."""

from __future__ import annotations

import resource

#: What a process needs besides the sockets that are counted: files, pipes, connections to a database.
_OTHERS = 300


def room_for_sockets() -> int:
    """Raise this process's limit of open files as far as it may, and say how many sockets that leaves.

    Processes started afterwards inherit the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls its hard limit infinite and refuses to go there.
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted - _OTHERS
