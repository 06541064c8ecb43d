"""TCP ports on loopback that stay ours while nothing listens on them."""

from __future__ import annotations

import functools
import itertools
import os
import random
import socket
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"

# Below the range from which Linux (32768 and up) and macOS (49152 and up) take the local end of
# outgoing connections.  A test stops a server and expects its port to be free when the server comes
# back; from that range, any client in the machine could hold it by then - even the client under
# test, which on loopback can connect to itself when it asks for a closed port of that range.
_LOWEST, _HIGHEST = 15_000, 30_000

# Parallel test processes stay out of each other's way: a port whose server is just being restarted
# looks free to everybody.
_PROCESSES = 25


@functools.cache
def _candidates() -> Iterator[int]:
    """The ports of this process in turn, so that one just given up is the last to come again."""
    share = (_HIGHEST - _LOWEST) // _PROCESSES
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    first, count = _LOWEST, _HIGHEST - _LOWEST
    if worker.isdecimal():
        first, count = _LOWEST + share * (int(worker) % _PROCESSES), share
    # Not the module's shared generator: suites seed that one, and two runs with one seed on one
    # machine would then try the same ports in the same order.
    start = random.SystemRandom().randrange(count)
    return itertools.cycle([first + (start + step) % count for step in range(count)])


def free_port() -> int:
    """A port of the loopback address on which nothing listened a moment ago."""
    for port in itertools.islice(_candidates(), 200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: connections in TIME_WAIT do not count as "in use".
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {_LOWEST} and {_HIGHEST}")
