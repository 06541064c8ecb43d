"""Whoever starts a soak reads at its end what ran."""

import subprocess
import sys
from pathlib import Path

from tests.support import soaked

TESTS = """\
import pytest

pytestmark = pytest.mark.soak


def test_often(tell):
    tell("7 rounds")


def test_that_fails():
    raise AssertionError


def test_that_comes_later():
    pass


@pytest.mark.skip(reason="as it is")
def test_that_is_skipped():
    pass
"""


def run(folder: Path, *arguments: str) -> str:
    """What pytest prints of the tests above."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = soak: takes long\n")
    (folder / "test_long.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", soaked.__name__, "-p", "no:cacheprovider", *arguments, str(folder)]
    root = Path(soaked.__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60).stdout


def test_a_soak_says_what_ran(tmp_path: Path) -> None:
    """The tests of each file by outcome, and what a test tells of itself; from several processes too."""
    printed = run(tmp_path, "-m", "soak", "-n", "2")
    assert "test_long.py: 2 passed, 1 skipped, 1 failed" in printed
    assert "test_long.py::test_often: 7 rounds" in printed
    assert "4 of the 4 tests that were chosen ran" in printed


def test_a_soak_that_was_stopped_says_so(tmp_path: Path) -> None:
    """What did not run is not counted as if it had."""
    assert "2 of the 4 tests that were chosen ran" in run(
        tmp_path, "-m", "soak", "-x", "-n", "0", "--junitxml", str(tmp_path / "junit.xml")
    )
