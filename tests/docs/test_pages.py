"""What holds for every page: links lead somewhere, folders list their pages, and no secret is shown."""

import re
from pathlib import Path

import pytest

from holdfast.sessions.tokens import TOKEN_PATTERN
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, links

EVERY_PAGE = [*PAGES, *sorted(ROOT.glob("*.md"))]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", EVERY_PAGE, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every link within the repository, and the heading it names."""
    broken = []
    for target in links(path):
        place, _, fragment = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        found = (path.parent / place).resolve() if place else path
        if not found.exists() or (fragment and found.suffix == ".md" and fragment not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in PAGES} - {DOCS}), ids=_name)
def test_a_folder_lists_its_pages(folder: Path) -> None:
    """Its README leads to every page beside it."""
    listed = set(links(folder / "README.md"))
    pages = {path.name for path in folder.glob("*.md")} - {"README.md"}
    assert pages - listed == set()


@pytest.mark.parametrize("path", EVERY_PAGE, ids=_name)
def test_no_page_installs_from_the_index(path: Path) -> None:
    """The project named `holdfast` there is another one; an extra is named, and the README says how it is installed."""
    assert re.findall(r"install '?\"?holdfast\b", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", EVERY_PAGE, ids=_name)
def test_no_page_shows_a_token_or_a_private_place(path: Path) -> None:
    """Tokens in examples are made up and look it; nobody's home is named."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(TOKEN_PATTERN, text) == []
    assert re.findall(r"(?<![\w.])/(?:root|work|home/\w+|Users/\w+)/", text) == []
