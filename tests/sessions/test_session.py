"""The values an application holds: sessions, new sessions, user ids, reasons."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.ids import new_id
from holdfast.sessions.session import (
    END_REASONS,
    End,
    NewSession,
    Record,
    Session,
    checked_reason,
    checked_user_id,
)
from holdfast.sessions.tokens import new_token
from holdfast.testing.suite_users import LOOKALIKES, REFUSED_USERS

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(**changes: Any) -> Record:
    """A record of a live session."""
    plain = Record(new_id(), "u1", '{"a":{"b":[1]}}', 1, NOW, NOW + timedelta(days=1), NOW, 3)
    return plain._replace(**changes)


def test_a_session_is_the_view_of_a_record() -> None:
    """Ids are text, metadata is decoded, the rest is as stored."""
    stored = record()
    session = Session.of(stored)
    assert session.id == str(stored.id)
    assert session.metadata == {"a": {"b": [1]}}
    assert (session.user_id, session.request_count) == ("u1", 3)
    assert session.created_at == session.last_activity == NOW
    assert session.expires_at == NOW + timedelta(days=1)


def test_a_session_is_true() -> None:
    """`if session:` works, however empty its metadata and low its count."""
    assert bool(Session.of(record(user_id=None, metadata="{}", request_count=0))) is True


def test_a_session_cannot_be_changed() -> None:
    """It is what was, not a handle to what is; it takes no new attributes either."""
    session = Session.of(record())
    for name in ("id", "user_id", "metadata", "expires_at", "request_count"):
        with pytest.raises(FrozenInstanceError):
            setattr(session, name, None)
    with pytest.raises((AttributeError, TypeError)):
        session.is_admin = True  # type: ignore[attr-defined]  # that is the test


def test_each_session_has_its_own_metadata() -> None:
    """Callers who share a record do not share a dict."""
    stored = record()
    first, second = Session.of(stored), Session.of(stored)
    first.metadata["a"]["b"].append(2)
    assert second.metadata == {"a": {"b": [1]}}
    assert first != second


def test_a_new_session_is_a_pair_with_an_id() -> None:
    """It unpacks to token and expiry, and has all three by name."""
    token = new_token()
    new = NewSession("id", token, NOW)
    unpacked, expires_at = new
    assert (unpacked, expires_at) == (token, NOW) == (new.token, new.expires_at) == new
    assert new.id == "id"
    assert isinstance(new, tuple)


def test_a_new_session_does_not_print_its_token() -> None:
    """Neither repr, str nor a format shows it (S-10)."""
    new = NewSession("the id", new_token(), NOW)
    for text in (repr(new), str(new), f"{new}", f"{[new]}", f"{ {'new': new} }"):
        assert new.token not in text
        assert new.token[4:20] not in text
        assert "the id" in text


def through_pickle(new: NewSession) -> NewSession:
    """Pickled and read again."""
    again: NewSession = pickle.loads(pickle.dumps(new))  # noqa: S301 - its own words, no one else's
    return again


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, through_pickle])
def test_a_new_session_can_be_copied(again: Callable[[NewSession], NewSession]) -> None:
    """A copy is the same in all three, and hides its token too."""
    new = NewSession("the id", new_token(), NOW)
    other = again(new)
    assert type(other) is NewSession
    assert (other, other.id) == (new, new.id)
    assert repr(other) == repr(new)


def test_a_session_goes_into_a_set() -> None:
    """Equal ones are one; the same session at another time has the same hash, and is another value."""
    stored = record()
    session, later = Session.of(stored), Session.of(stored._replace(request_count=4))
    assert {session, Session.of(stored)} == {session}
    assert hash(session) == hash(later)
    assert {session, later} == {session, later}
    assert len({session, later}) == 2


def test_a_session_has_no_token_to_print() -> None:
    """What validate answers holds neither token nor digest (S-12)."""
    assert not {"token", "digest"} & set(Session.__slots__)


@pytest.mark.parametrize("user_id", [*LOOKALIKES, "u" * 255, "\N{GRINNING FACE}" * 255], ids=lambda user: user[:9])
def test_user_ids_stay_as_they_are(user_id: str) -> None:
    """Not trimmed, not folded, not normalised (S-54)."""
    assert checked_user_id(user_id) == user_id


@pytest.mark.parametrize("user_id", [None, *REFUSED_USERS], ids=range(len(REFUSED_USERS) + 1))
def test_bad_user_ids_are_refused(user_id: Any) -> None:
    """Length, type, and characters that a database or a terminal minds (S-53, S-54)."""
    with pytest.raises(InvalidArgument):
        checked_user_id(user_id)


def test_there_are_four_reasons_for_an_end() -> None:
    """`replaced` and `unknown` are about tokens, not about sessions."""
    assert END_REASONS == ("expired", "idle", "revoked", "evicted")
    assert [checked_reason(reason) for reason in END_REASONS] == list(END_REASONS)
    others: list[Any] = ["replaced", "unknown", "", None, []]
    for other in others:
        with pytest.raises(InvalidArgument):
            checked_reason(other)


def test_an_end_is_a_plain_tuple() -> None:
    """Hooks and watches get which, whose, why and when."""
    assert End("id", None, "idle", NOW) == ("id", None, "idle", NOW)
