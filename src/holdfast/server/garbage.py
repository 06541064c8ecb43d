"""The garbage collector of a process that keeps many objects for long and leaves few cycles behind."""

import gc
from typing import Final

_THRESHOLDS: Final = (700, 10, 1000)
"""Python's own but for the last one, which it has at 10: of so many looks at what is young, one is at everything."""


def collect_seldom() -> None:
    """Look through everything a hundred times less often than Python does by itself. For the whole process.

    Nearly all that a server makes is freed by counting references; what is left in cycles is mostly young, and is
    found as before. A look through everything stops the process, with ten thousand sockets for most of a second, and
    Python takes one every few seconds while they talk. That is as long as a close may take (promise 6).
    """
    gc.collect()
    # What has been loaded by now stays until the end, and is not looked at again.
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
