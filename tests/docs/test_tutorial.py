"""The tutorials, run as they stand."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.console import Shell, development_server
from tests.docs.pages import blocks, page

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the transcripts need curl")


def test_first_session(tmp_path: Path) -> None:
    """The script prints what the page says, and so does the server."""
    # The reader's folder: `.venv/bin/python`, and `python3` for the formatting.
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (binaries / "python").chmod(0o755)
    with development_server(tmp_path) as (base, credentials):
        shell = Shell(tmp_path, base, credentials)
        for block in blocks(page("tutorial/first-session.md")):
            if block.file is not None:
                (tmp_path / block.file).write_text(block.text)
            if block.language == "console" and "run" in block.words:
                shell.check(block.text)


def test_adopting_a_legacy_table(tmp_path: Path) -> None:
    """An operator with a legacy file and the page alone: import, look, end, back up, restore."""
    binaries = tmp_path / ".bin"
    binaries.mkdir()
    for name, command in (("holdfast", "-m holdfast"), ("python3", "")):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (binaries / name).chmod(0o755)
    zone = {"HOLDFAST_LEGACY_TZ": "Europe/Berlin", "TZ": "Europe/Berlin"}
    shell = Shell(tmp_path, "http://nowhere", {"PATH": f"{binaries}:{os.environ['PATH']}", **zone})
    for block in blocks(page("tutorial/adopt-a-legacy-table.md")):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
        if block.language == "console" and "run" in block.words:
            shell.check(block.text)
