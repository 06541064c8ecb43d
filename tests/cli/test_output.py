"""What commands print, on a pipe and on terminals of several widths."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.command import environment

_SCRIPT = """
import json, sys
from holdfast.cli.output import print_table
print_table(*json.loads(sys.argv[1]))
"""
COLUMNS = ("id", "user_id", "request_count")
ROWS = [["019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b", "ada", 12], ["019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5c", "漢字", 3]]


def printed(tmp_path: Path, width: int | None) -> list[str]:
    """The lines of a table on a terminal so wide; `None` is a pipe."""
    command = [sys.executable, "-c", _SCRIPT, json.dumps([COLUMNS, ROWS])]
    variables = environment(TERM="xterm")
    # These count more than the terminal's own size, and pytest's workers have them.
    for name in ("COLUMNS", "LINES"):
        variables.pop(name, None)
    if width is None:
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.splitlines()
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with os.fdopen(reader, "rb", buffering=0) as terminal:
        process = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=writer)
        os.close(writer)
        shown = b""
        # Linux says by an error that nobody has the terminal open any more.
        with suppress(OSError):
            while read := terminal.read(4096):
                shown += read
        assert process.wait(30) == 0
    return re.sub(r"\x1b\[\d*m", "", shown.decode()).splitlines()


@pytest.mark.parametrize("width", [None, 80])
def test_a_table_that_fits_has_a_line_for_each_row(tmp_path: Path, width: int | None) -> None:
    """CLI: aligned under its columns, on a terminal and in a pipe alike; letters of two cells count as two."""
    assert printed(tmp_path, width) == [
        "id                                    user_id  request_count",
        "019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b  ada                 12",
        "019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5c  漢字                 3",
    ]


@pytest.mark.parametrize("width", [20, 40, 59])
def test_a_table_that_does_not_fit_is_a_block_for_each_row(tmp_path: Path, width: int) -> None:
    """CLI: an id in pieces is an id that cannot be copied."""
    assert printed(tmp_path, width) == [
        "id             019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b",
        "user_id        ada",
        "request_count  12",
        "",
        "id             019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5c",
        "user_id        漢字",
        "request_count  3",
    ]
