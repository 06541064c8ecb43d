"""The README, followed literally."""

import re
from pathlib import Path

from tests.docs.console import run_file
from tests.docs.pages import ROOT, blocks

README = ROOT / "README.md"


def test_the_program_runs(tmp_path: Path) -> None:
    """Saved as a file it runs as it is, and shows the session it made."""
    (program,) = (block.text for block in blocks(README) if block.language == "python")
    (tmp_path / "try.py").write_text(program)
    assert re.fullmatch(r"ada 1 until \d{4}-\d\d-\d\d .*\+00:00\n", run_file(tmp_path, "try.py"))


def test_every_command_is_a_target_of_make() -> None:
    """What a reader is told to type first is there."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    told = re.findall(r"^\$ make ([a-z]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"serve", "demo"} <= set(told) <= targets


def test_every_extra_is_there() -> None:
    """The extras that it names are those that the package has, but for the two that only gather others."""
    (named,) = re.findall(r"with the extras you need: (.+?)\.\n", README.read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert set(re.findall(r"`([a-z]+)`", named)) == set(re.findall(r"^([a-z]+) = ", section, re.MULTILINE)) - {
        "all",
        "cli",
    }
