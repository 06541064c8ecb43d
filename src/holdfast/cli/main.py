"""The entry point. It says in one sentence what to install when a part of the command line is not there."""

import signal
import sys
from io import TextIOWrapper

from holdfast.cli.exits import FAILURE, complain


def main() -> None:
    """Run the command line and exit with one of the codes in `exits`."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows fewer letters shows the numbers of those it does not know.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run()
    except KeyboardInterrupt:
        # While the packages are loaded: nothing was begun.
        complain("stopped")
        code = FAILURE
    finally:
        # All is said and done: whoever stops it now would only change the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _run() -> int:
    try:
        from holdfast.cli.commands import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("holdfast"):
            raise
        complain(f"the command line needs the package {error.name}; install Holdfast with the extra `cli`")
        return FAILURE
    return run()
