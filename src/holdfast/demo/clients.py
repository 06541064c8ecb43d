"""All clients, in a process of their own: they would not be clients if they shared one with what they watch.

    python -m holdfast.demo.clients

The first line of its input is a JSON object that says whom to ask and where the journals go; it ends, after a last
look, at the next line or at the end of its input. Its output is a line a moment with what the clients have seen.
"""

import asyncio
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from holdfast.demo.client import Client
from holdfast.demo.journal import Journal
from holdfast.demo.tally import Tally

_TELL_SECONDS: Final = 0.2


async def _told_to_stop(stop: asyncio.Event) -> None:
    await asyncio.to_thread(sys.stdin.readline)
    stop.set()


async def _tell(tally: Tally) -> None:
    while True:
        _say(tally)
        await asyncio.sleep(_TELL_SECONDS)


def _say(tally: Tally) -> None:
    sys.stdout.write(json.dumps(asdict(tally)) + "\n")
    sys.stdout.flush()


async def main(wanted: dict[str, Any]) -> None:
    """Live the clients' lives."""
    stop, tally = asyncio.Event(), Tally()
    telling = asyncio.create_task(_tell(tally))
    stopping = asyncio.create_task(_told_to_stop(stop))
    with ExitStack() as journals:
        async with asyncio.TaskGroup() as lives:
            for number in range(wanted["clients"]):
                name = f"client-{number + 1:03}"
                journal = journals.enter_context(Journal(Path(wanted["journals"]) / f"{name}.jsonl", wanted["began"]))
                client = Client(name, wanted["port"], wanted["credential"], journal, tally, stop)
                token = wanted["tokens"][number] if number < len(wanted["tokens"]) else None
                lives.create_task(client.live(token))
    telling.cancel()
    _say(tally)
    await asyncio.gather(telling, stopping, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))
