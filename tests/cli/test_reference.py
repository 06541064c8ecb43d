"""The page of the commands is what the commands say."""

from pathlib import Path

from holdfast.cli import reference

ROOT = Path(__file__).parents[2]


def test_the_reference_page_is_the_command_line() -> None:
    """docs/reference/cli.md is what `python -m holdfast.cli.reference` writes."""
    written = (ROOT / reference.PAGE).read_text(encoding="utf-8")
    assert written == reference.page(), "run `python -m holdfast.cli.reference`, and commit what it wrote"
