"""The pages and what is in them: fenced blocks with the words behind their language, links, headings.

A block says in its first line what the tests do with it; GitHub shows only the language.

    ```python run            executed, with `await` at the top level; the blocks of a page share their names
    ```python file=name.py   written to a file in the page's own folder
    ```text output           what the block before it prints, exactly
    ```console run           a transcript: commands after `$ `, and what each prints
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(DOCS.rglob("*.md"))

_FENCE: Final = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING: Final = re.compile(r"^#{1,6} +(?P<title>.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: where it begins, its language, the words behind it, its text."""

    line: int
    language: str
    words: frozenset[str]
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


def page(name: str) -> Path:
    """A page by its path in `docs/`."""
    return DOCS / name


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, language, frozenset(words), match["text"]))
    return found


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> list[str]:
    """Where the links of a page lead, as they are written."""
    return [match["target"] for match in _LINK.finditer(prose(path))]


def anchors(path: Path) -> set[str]:
    """The fragments that a page's headings can be reached by, as GitHub makes them."""
    made: set[str] = set()
    for match in _HEADING.finditer(prose(path)):
        title = re.sub(r"[^\w\- ]", "", match["title"].strip().lower())
        made.add(title.replace(" ", "-"))
    return made
