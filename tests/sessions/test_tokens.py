"""Tokens: long, random, recognisable, and refused at the door when they are not whole."""

import re
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.tokens import (
    SECRET_PATTERN,
    TOKEN_PATTERN,
    TOKEN_PREFIX,
    digest_of,
    new_ticket,
    new_token,
    ticket_digest_of,
)
from holdfast.testing.suite_base import MALFORMED, NOT_STRINGS

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY = slice(4, 47)
LENGTH = 55

FORK = """
import os
from holdfast.sessions.tokens import new_token
new_token()  # whatever state a generator might keep exists before the fork
for worker in range(2):
    if os.fork() == 0:
        os.write(1, "".join(new_token() + "\\n" for _ in range(1000)).encode())
        os._exit(0)
    os.wait()
"""


def test_tokens_are_unique_long_and_uniform() -> None:
    """100,000 tokens: all distinct, of one length, and flat at every position of the body (S-01)."""
    tokens = [new_token() for _ in range(100_000)]
    assert len(set(tokens)) == len(tokens)
    assert {len(token) for token in tokens} == {LENGTH}
    expected = len(tokens) / len(ALPHABET)
    for position in range(BODY.start, BODY.stop):
        counts = Counter(token[position] for token in tokens)
        assert set(counts) == set(ALPHABET)
        chi_square = sum((counts[character] - expected) ** 2 / expected for character in ALPHABET)
        # 61 degrees of freedom: mean 61, deviation 11. Fair tokens pass 150 once in a thousand million runs.
        assert chi_square < 150, f"position {position}"


def test_the_alphabet_carries_256_bits() -> None:
    """The body has more than 2**256 possible values (S-01)."""
    assert len(ALPHABET) ** (BODY.stop - BODY.start) > 2**256


def test_forked_workers_never_repeat() -> None:
    """Two workers forked from one process, which had made a token before, make different tokens (S-01)."""
    output = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True).stdout
    tokens = output.split()
    assert len(tokens) == len(set(tokens)) == 2000


def test_every_flipped_character_is_noticed() -> None:
    """A token with any one character changed has no digest, wherever and into whatever (S-05, S-06)."""
    token = new_token()
    for position in range(LENGTH):
        for character in ALPHABET + "_- \0é":
            if character != token[position]:
                changed = token[:position] + character + token[position + 1 :]
                assert digest_of(changed) is None
                assert ticket_digest_of(changed) is None


def test_neighbours_changed_places_are_noticed() -> None:
    """Two adjacent characters swapped are a typo, and no token (S-06)."""
    token = new_token()
    for position in range(LENGTH - 1):
        first, second = token[position], token[position + 1]
        if first != second:
            assert digest_of(token[:position] + second + first + token[position + 2 :]) is None


def test_length_and_case_matter() -> None:
    """Cut short, made longer, padded or in another case, a token is none (S-05)."""
    token = new_token()
    for text in (*(token[:length] for length in range(LENGTH)), token + "0", token + "\n", " " + token):
        assert digest_of(text) is None
    assert digest_of(token.swapcase()) is None
    # A checksum may happen to have no letters, and so no upper case.
    assert token[-8:].upper() == token[-8:] or digest_of(token[:-8] + token[-8:].upper()) is None


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_text_has_no_digest(text: str) -> None:
    """Any other text is refused without a database (S-05)."""
    assert digest_of(text) is None
    assert ticket_digest_of(text) is None


@given(st.text())
def test_random_text_has_no_digest(text: str) -> None:
    """Nor does text that nobody thought of, with the prefix or without (S-05)."""
    assert digest_of(text) is None
    assert digest_of(TOKEN_PREFIX + text) is None


@pytest.mark.parametrize("value", NOT_STRINGS, ids=lambda value: type(value).__name__)
def test_only_a_string_can_be_a_token(value: Any) -> None:
    """Anything else is the caller's mistake (S-08)."""
    with pytest.raises(InvalidArgument):
        digest_of(value)
    with pytest.raises(InvalidArgument):
        ticket_digest_of(value)


def test_the_digest_is_sha_256_of_the_text() -> None:
    """What stores keep is the plain SHA-256 of the token, 32 bytes (S-02)."""
    token = new_token()
    assert digest_of(token) == sha256(token.encode()).digest()


def test_tokens_and_tickets_are_told_apart() -> None:
    """A ticket has the form of a token and another prefix; neither passes for the other."""
    token, ticket = new_token(), new_ticket()
    assert token.startswith("hfs_")
    assert ticket.startswith("hft_")
    assert ticket_digest_of(ticket) == sha256(ticket.encode()).digest()
    assert digest_of(ticket) is None
    assert ticket_digest_of(token) is None
    assert digest_of("hfs_" + ticket[4:]) is None


def test_the_pattern_finds_tokens_in_text() -> None:
    """The published pattern finds every token and ticket in a log line, whole (S-06)."""
    made = [new_token(), new_ticket(), new_token()]
    line = f"GET /?token={made[0]}&x=1 {made[1]};{made[2]}"
    assert re.findall(TOKEN_PATTERN, line) == made


def test_the_pattern_for_logs_finds_tokens_of_the_legacy_form_too() -> None:
    """Whole, wherever they stand and however the UUID is written; an id by itself is none."""
    made = [f"session-{uuid4()}", new_token(), f"session-{uuid4().hex}", f"session-{str(uuid4()).upper()}"]
    line = f"Key (session_id)=({made[0]}) exists {made[1]}; x{made[2]}y /ws/{made[3]}?id={uuid4()}"
    assert re.findall(SECRET_PATTERN, line) == made
