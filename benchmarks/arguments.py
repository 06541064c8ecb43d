"""What the command line of `make bench` asks for."""

import argparse
from pathlib import Path
from typing import Final

from benchmarks.contenders import NAMES
from benchmarks.parts import PARTS

FOLDER: Final = Path(__file__).parent
QUICK: Final[dict[str, float]] = {
    "sessions": 200,
    "callers": 10,
    "rounds": 1,
    "seconds": 0.2,
    "sockets": 300,
    "rows": 2_000,
    "ended": 2_000,
    "moved": 2_000,
    "writes": 200,
}
"""As small as it gets, only to see that it runs."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options of this run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Holdfast and its peers side by side, and print ratios."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--bars", nargs="+", choices=PARTS, default=PARTS, help="only these (default: %(default)s)")
    what.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"only rates of these: {NAMES}")
    what.add_argument("--scale", action="store_true", help="how cost grows with the number of sessions; minutes")
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions in each store (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=100, help="callers at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="one slice of a round (default: %(default)s)")
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="sessions in the table of B9 (default: %(default)s)"
    )
    parser.add_argument("--ended", type=int, default=1_000_000, help="ended sessions of B12 (default: %(default)s)")
    parser.add_argument("--moved", type=int, default=1_000_000, help="sessions moved by B13 (default: %(default)s)")
    parser.add_argument("--writes", type=int, default=1_000, help="writes a second beside B13 (default: %(default)s)")
    parser.add_argument(
        "--sockets", type=int, default=10_000, help="idle sockets; a tenth is busy (default: %(default)s)"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[10_000, 1_000_000, 10_000_000],
        help="how many sessions --scale fills, one after the other (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help=f"only to see that it runs: {QUICK}")
    parser.add_argument("--no-redis", action="store_true", help="leave Redis out")
    parser.add_argument("--output", type=Path, default=FOLDER / "results", help="the folder of the results")
    options = parser.parse_args(given)
    if options.quick:
        vars(options).update(QUICK, sizes=[400])
    return options
