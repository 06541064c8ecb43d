"""TCP ports on loopback that stay ours while nothing listens on them."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which Linux (32768 and up) and macOS (49152 and up) take the local end of
# outgoing connections.  A test stops a server and expects its port to be free when the server comes
# back; from that range, any client in the machine could hold it by then - even the client under
# test, which on loopback can connect to itself when it asks for a closed port of that range.
_LOWEST, _HIGHEST = 15_000, 30_000


def free_port() -> int:
    """A port of the loopback address on which nothing listened a moment ago."""
    # Not the module's shared generator: suites seed that one, and two workers with one seed would
    # then try the same ports in the same order.
    generator = random.SystemRandom()
    for _ in range(200):
        port = generator.randint(_LOWEST, _HIGHEST)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: connections in TIME_WAIT do not count as "in use".
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {_LOWEST} and {_HIGHEST}")
