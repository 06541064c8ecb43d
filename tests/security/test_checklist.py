"""The security checklist tells the truth."""

from tests.security.checklist import PAGE, REQUIRED, ROWS, covered, page


def test_every_row_of_this_version_is_held_by_a_test() -> None:
    """No row that this version must hold is without a test that names it."""
    assert sorted(REQUIRED - covered().keys()) == []


def test_the_page_is_up_to_date() -> None:
    """docs/reference/security-checklist.md is what `python -m tests.security.checklist` writes."""
    assert PAGE.read_text() == page()


def test_rows_that_tests_name_exist() -> None:
    """A docstring names no row that the list does not know."""
    assert sorted(covered().keys() - ROWS.keys()) == []
