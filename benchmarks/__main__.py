"""`make bench`, or `python -m benchmarks`: measure, print one table, write one JSON file and pictures."""

import asyncio
import json
import logging
from datetime import UTC, datetime

from benchmarks.arguments import arguments
from benchmarks.parts import SOCKETS
from benchmarks.pictures.draw import draw
from benchmarks.run import measure, scale
from benchmarks.sockets import run as sockets


def main() -> None:
    """Measure, and keep the result."""
    logging.basicConfig(level=logging.ERROR)
    options = arguments()
    if not options.scale and not options.only and set(options.bars) & set(SOCKETS):
        sockets.check_room(scale(options))
    result = asyncio.run(measure(options))
    options.output.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}"
    path = options.output / f"{stem}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    pictures = draw(result, options.output, stem)
    print("\nwritten to " + ", ".join(map(str, (path, *pictures))))


if __name__ == "__main__":
    main()
