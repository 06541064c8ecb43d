"""An import that kills itself at a step: `python -m tests.imports.killed ADDRESS FOLDER STEP [FILE]`.

With a file it imports that one, else the table in place.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

from holdfast.imports.run import Wishes
from holdfast.imports.whole import from_sqlite, in_place
from holdfast.sessions.store import StoreOptions


def _main(address: str, folder: str, number: str, source: str | None = None) -> None:
    steps = 0

    def tell(_step: str, _rows: int) -> None:
        nonlocal steps
        steps += 1
        if steps == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    wishes, options = Wishes(ZoneInfo("UTC")), StoreOptions()
    if source is None:
        asyncio.run(in_place(address, options, Path(folder), wishes, tell, dry=False))
    else:
        asyncio.run(from_sqlite(Path(source), address, options, Path(folder), wishes, tell, dry=False))


if __name__ == "__main__":
    _main(*sys.argv[1:])
