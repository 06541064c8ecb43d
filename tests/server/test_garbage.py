"""The garbage collector of the server's process."""

import subprocess
import sys

_PROGRAM = """
import gc, weakref
from holdfast.server.garbage import collect_seldom

class Node:
    pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

collect_seldom()
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
left = cycle()
young = [[] for _ in range(800)]
assert left() is None, "a young cycle is found by itself"
before = gc.get_stats()[2]["collections"]
kept = [[] for _ in range(1_000_000)]
assert gc.get_stats()[2]["collections"] == before, "everything was looked through"
"""


def test_everything_is_seldom_looked_through_and_what_is_young_as_ever() -> None:
    """F-31: a million new objects cost no look through all of them, which would stop the sockets; cycles still go."""
    # In a process of its own: the collector belongs to the whole of it.
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=60)
