"""The digest that brings its token along, for the one store that needs it."""

from pathlib import Path

import pytest

from holdfast.legacy.store import LegacyStore
from holdfast.legacy.zone import zone_named
from holdfast.memory import MemoryStore
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.ids import new_id
from holdfast.sessions.session import NewRecord
from holdfast.sessions.store import StoreOptions
from holdfast.sessions.tokens import (
    clear_digest_of,
    clear_digest_of_new,
    digest_for,
    digest_of,
    digest_of_new,
    digest_of_new_for,
    new_token,
)
from holdfast.sql.address import SqliteAddress


def test_it_is_the_plain_digest_and_shows_no_token() -> None:
    """Equal, with the same hash, and in no text form of it or of a record is the token (promise 10)."""
    token = new_token()
    clear = clear_digest_of_new(token)
    assert clear == clear_digest_of(token) == digest_of(token)
    assert hash(clear) == hash(digest_of_new(token))
    for shown in (repr(clear), str(clear), f"{clear!s}", repr(NewRecord(new_id(), clear, None, "{}"))):
        assert token not in shown


def test_only_a_store_that_keeps_tokens_gets_them(tmp_path: Path) -> None:
    """Any other store's digests are plain, and texts of another form are none of its tokens."""
    native = MemoryStore()
    legacy = LegacyStore(SqliteAddress(tmp_path / "legacy.db"), StoreOptions(), zone_named("UTC"))
    token = new_token()
    assert not hasattr(digest_of_new_for(native, token), "token")
    assert not hasattr(digest_for(native, token), "token")
    assert digest_for(native, "session-1") is None
    assert getattr(digest_for(legacy, "session-1"), "token", None) == "session-1"
    assert getattr(digest_of_new_for(legacy, token), "token", None) == token


@pytest.mark.parametrize("text", ["", "x" * 256, "a\0b", "\ud800"], ids=ascii)
def test_what_no_application_can_have_issued_is_no_token(text: str) -> None:
    """No database is asked about it."""
    assert clear_digest_of(text) is None


def test_what_is_no_string_is_the_callers_mistake() -> None:
    """As with every other token."""
    with pytest.raises(InvalidArgument):
        clear_digest_of(b"session-1")  # type: ignore[arg-type]  # that is the test
