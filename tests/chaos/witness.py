"""`holdfast serve` as anybody runs it, which says on a signal what tasks it has: `python -m tests.chaos.witness serve`.

Nothing of the server is changed. The signal is SIGUSR1, and what there is goes into the file that CHAOS_WITNESS names.
"""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path

from holdfast.cli.main import main


def _tasks() -> dict[str, int]:
    """How many tasks there are of each name; those that were given none go by their coroutine's."""
    found = Counter(
        task.get_coro().__qualname__ if re.fullmatch(r"Task-\d+", task.get_name()) else task.get_name()  # type: ignore[union-attr]  # every coroutine has one
        for task in asyncio.all_tasks()
    )
    return dict(sorted(found.items()))


def _testify(*_: object) -> None:
    place = Path(os.environ["CHAOS_WITNESS"])
    # Whole or not there: whoever waits for the file reads it at once.
    unfinished = place.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(_tasks()))
    unfinished.rename(place)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _testify)
    main()
