"""The tutorial about the chat, held to the code it shows. What it tells of the browser is tried in tests/browser."""

import re

import pytest

from tests.docs.pages import ROOT, Block, blocks, links, page

PAGE = page("tutorial/a-chat-that-ends-with-its-session.md")


def _source(block: Block) -> str | None:
    return next((word.removeprefix("from=") for word in block.words if word.startswith("from=")), None)


@pytest.mark.parametrize(
    "block", [each for each in blocks(PAGE) if _source(each)], ids=lambda block: f"line {block.line}"
)
def test_the_code_it_shows_is_the_code_that_runs(block: Block) -> None:
    """Every excerpt stands in the file it names, letter by letter."""
    assert block.text in (ROOT / str(_source(block))).read_text()


def test_its_pictures_show_the_chat() -> None:
    """Each picture is one that `make pictures` takes."""
    taken = set(re.findall(r'folder / "([a-z-]+\.png)"', (ROOT / "tests/browser/test_pictures.py").read_text()))
    shown = {link.rpartition("/")[2] for link in links(PAGE) if link.endswith(".png")}
    assert shown
    assert shown <= taken
    assert {path.name for path in (ROOT / "docs/images").glob("chat*.png")} == taken


def test_the_lifetime_it_speaks_of() -> None:
    """36 seconds, with the warning nine seconds before their end."""
    from examples.chat.app import WARN_SECONDS

    text = PAGE.read_text()
    hours = float(re.findall(r"HOLDFAST_SESSION_TTL_HOURS=(\S+)", text)[0])
    assert round(hours * 3600) == 36
    assert round(min(WARN_SECONDS, hours * 3600 / 4)) == 9
    assert "last 36 seconds" in text
    assert "Nine seconds before the end" in text
