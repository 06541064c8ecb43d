"""The README, followed literally."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import environment
from tests.docs.console import commands, development_server, run_file, same
from tests.docs.pages import ROOT, blocks

README = ROOT / "README.md"


def test_the_program_runs(tmp_path: Path) -> None:
    """Saved as a file it runs as it is, and shows the session it made."""
    (program,) = (block.text for block in blocks(README) if block.language == "python")
    (tmp_path / "try.py").write_text(program)
    assert re.fullmatch(r"ada 1 until \d{4}-\d\d-\d\d .*\+00:00\n", run_file(tmp_path, "try.py"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the transcript needs curl")
def test_the_second_terminal(tmp_path: Path) -> None:
    """Each line prints what is shown, in one shell that has nothing set but what the lines before set."""
    (transcript,) = (block.text for block in blocks(README) if "curl" in block.text)
    with development_server(tmp_path) as (base, credentials):
        # The two values that a reader copies: the credential from the server's terminal, the token from an answer.
        copied = {"HOLDFAST_APP_TOKEN": credentials["APP"]}
        before = ""
        for command, shown in commands(transcript):
            line = command.replace("http://127.0.0.1:8000", base)
            if (assigned := re.match(r"(?:export )?([A-Z_]+)=", line)) is not None:
                name = assigned[1]
                before += f"{assigned[0]}{copied[name]}\n" if name in copied else f"{line}\n"
                continue
            ran = subprocess.run(
                ["bash", "-c", before + line],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            printed = ran.stdout.replace("\r", "")
            assert ran.returncode == 0, ran.stderr
            assert same(shown, printed), f"$ {command}\n{printed}"
            if (token := re.search(r"hfs_[0-9A-Za-z]+", printed)) is not None:
                copied["TOKEN"] = token[0]
