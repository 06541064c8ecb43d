"""Public ids: UUIDv7, and one spelling only."""

import time
from typing import Any
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.ids import new_id, parse_id

TEXT = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_ids_are_uuid_version_7() -> None:
    """Version 7, the RFC's variant, and the milliseconds of the process's clock in front."""
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == RFC_4122
    assert before <= made.int >> 80 <= after


def test_ids_are_unique_and_use_all_their_bits() -> None:
    """Of ten thousand no two are equal, and every random bit is sometimes set and sometimes not."""
    made = [new_id().int for _ in range(10_000)]
    assert len(set(made)) == len(made)
    random_bits = ((1 << 12) - 1) << 64 | (1 << 62) - 1
    some = every = made[0]
    for value in made:
        some |= value
        every &= value
    assert some & random_bits == random_bits
    assert every & random_bits == 0


def test_ids_sort_by_the_time_of_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """One made a millisecond later is greater, as a UUID and as text."""
    made = []
    for milliseconds in (1, 2, 10**12, 10**12 + 1, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
        made.append(new_id())
    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(map(str, made))


def test_an_id_reads_back() -> None:
    """Its canonical text, in either case, and the UUID itself name it."""
    made = new_id()
    assert parse_id(str(made)) == parse_id(str(made).upper()) == parse_id(made) == made


def test_ids_of_other_versions_read_too() -> None:
    """A session that came from elsewhere keeps its id, whatever its version."""
    other = uuid4()
    assert parse_id(str(other)) == other


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("-", ""),
        "{" + TEXT + "}",
        "urn:uuid:" + TEXT,
        TEXT[:-1],
        TEXT + "0",
        " " + TEXT,
        TEXT + "\n",
        TEXT.replace("0", "\N{FULLWIDTH DIGIT ZERO}"),
        TEXT.replace("7", "g"),
        TEXT.replace("-", "_"),
        TEXT + "\0",
        "0" * 36,
        "-" * 36,
        "a" * 1_048_576,
    ],
    ids=range(15),
)
def test_other_spellings_are_no_ids(text: str) -> None:
    """One session has one id in logs and addresses: no braces, no prefix, no missing hyphens."""
    assert parse_id(text) is None


@given(st.text())
def test_random_text_is_no_id(text: str) -> None:
    """And never raises."""
    assert parse_id(text) is None


@pytest.mark.parametrize("value", [None, 1, b"0" * 36, [TEXT]], ids=repr)
def test_only_text_can_be_an_id(value: Any) -> None:
    """Anything else is the caller's mistake."""
    with pytest.raises(InvalidArgument):
        parse_id(value)


def test_the_nil_id_is_an_id() -> None:
    """It names no session, and stands before all of them in a list."""
    assert parse_id("00000000-0000-0000-0000-000000000000") == UUID(int=0)
