"""The page of the cases of a live move names tests that there are."""

import re

from tests.docs.pages import DOCS

PAGE = DOCS / "explanation" / "live-move-cases.md"
NAMED = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")


def test_every_test_that_is_named_exists() -> None:
    """Each name leads to a file that has a test of that name."""
    named = NAMED.findall(PAGE.read_text())
    assert len(named) > 60
    missing = [
        (name, file)
        for name, file in named
        if not re.search(rf"^ *(async )?def {name}\(", (PAGE.parent / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_case_has_a_test_or_a_reason() -> None:
    """All 47, in order; where nothing holds one, the last column says why."""
    cases = re.findall(r"^\| (\d+) \| (.+?) \| (.+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, *_ in cases] == list(range(1, 48))
    assert not [number for number, _, held, why in cases if not NAMED.search(held) and not why]
