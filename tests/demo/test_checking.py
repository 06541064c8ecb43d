"""The comparison of journals and rows finds everything that can be wrong: else its noughts would say nothing."""

import pytest

from holdfast.demo.checking import Outcome, Row, compared
from holdfast.demo.journal import Entry

GOOD = [
    Entry("created", "a", 5.0),
    Entry("opened", "a", 6.0),
    Entry("echoed", "a", 7.0),
    Entry("changed", "a", 8.0, n=1),
    Entry("created", "b", 5.0),
    Entry("ended", "b", 5.0),
    Entry("closed", "a"),
    Entry("seen", "a"),
]
ROWS = [Row("a", 2, 1, True), Row("b", 0, 0, False)]


def outcome(rows: list[Row], *more: Entry) -> Outcome:
    """What is found with these rows, when the client has written more than what is good."""
    return compared({"client-001": [*GOOD, *more]}, rows)


def test_what_agrees_is_clean() -> None:
    """Demo: nothing is found where nothing is wrong, and everything is counted."""
    found = outcome(ROWS)
    assert found.clean
    assert (found.sessions, found.acknowledged, found.longest_wait_ms, found.sockets) == (2, 6, 8.0, 1)


@pytest.mark.parametrize(
    ("rows", "lost", "invented", "logged_out"),
    [
        pytest.param(ROWS[1:], 4, 0, 0, id="a session is missing, and all that was written to it"),
        pytest.param([Row("a", 1, 1, True), ROWS[1]], 1, 0, 0, id="a validate is missing"),
        pytest.param([Row("a", 3, 1, True), ROWS[1]], 0, 1, 0, id="a validate counts twice"),
        pytest.param([Row("a", 2, 0, True), ROWS[1]], 1, 0, 0, id="a change is missing"),
        pytest.param([Row("a", 2, 5, True), ROWS[1]], 0, 1, 0, id="a change that nobody made"),
        pytest.param([ROWS[0], Row("b", 0, 0, True)], 1, 0, 0, id="an ended session lives"),
        pytest.param([Row("a", 2, 1, False), ROWS[1]], 0, 0, 1, id="a session is over that nobody ended"),
        pytest.param([*ROWS, Row("c", 0, 0, True)], 0, 1, 0, id="a session that nobody began"),
    ],
)
def test_what_differs_is_found(rows: list[Row], lost: int, invented: int, logged_out: int) -> None:
    """Demo: each way in which a store may differ from the journals is counted, and is no success."""
    found = outcome(rows)
    assert not found.clean
    assert (found.lost, found.invented, found.logged_out) == (lost, invented, logged_out)
    assert found.findings


def test_what_is_unknown_may_or_may_not_be_there() -> None:
    """Demo: a write whose outcome its client does not know is neither lost nor invented."""
    unknown = [
        Entry("unknown", "a", 9.0, of="echoed"),
        Entry("unknown", "a", 9.0, of="changed", n=2),
        Entry("unknown", "-", 9.0, of="created"),
    ]
    assert outcome(ROWS, *unknown).clean
    found = outcome([Row("a", 3, 2, True), ROWS[1], Row("c", 0, 0, True)], *unknown)
    assert found.clean
    assert (found.unknown, found.longest_wait_ms) == (3, 9.0)
    assert not outcome([Row("a", 4, 2, True), ROWS[1]], *unknown).clean


def test_a_socket_that_the_client_did_not_close_was_dropped() -> None:
    """Demo: whatever happened to it, and whether or not the client noticed."""
    found = outcome([Row("a", 3, 1, True), ROWS[1]], Entry("opened", "a", 1.0))
    assert (found.sockets, found.sockets_dropped, found.clean) == (2, 1, False)


def test_an_answer_that_nobody_is_logged_in_is_a_log_out() -> None:
    """Demo: what a client is told counts, although the store may know better in the end."""
    found = outcome(ROWS, Entry("logged out", "a", 1.0, of="seen"))
    assert (found.logged_out, found.clean) == (1, False)


def test_a_client_that_never_looked_again_is_no_success() -> None:
    """Demo: a session of which its client does not say in the end that it is logged in counts as a log-out."""
    journal = [entry for entry in GOOD if entry.what != "seen"]
    assert compared({"client-001": journal}, ROWS).logged_out == 1
