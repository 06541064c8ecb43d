"""Values in and out of the tables: times, names of schemas, and metadata that both databases keep alike."""

import asyncio
import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from holdfast import InvalidArgument, SessionManager
from holdfast.sessions import metadata as metadata_rules
from holdfast.sessions.ids import parse_id
from holdfast.sql.tables import EPOCH, Instant, Span, checked_schema, instant, microseconds, tables, uuid_of
from tests.conftest import MigratedDatabases

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
metadata = st.dictionaries(
    keys,
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)),
    max_size=8,
)
anything = st.recursive(
    scalars | st.floats() | st.integers() | st.text() | st.binary(max_size=3) | st.just({1: 2}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


_dialects: Any = postgresql, sqlite
POSTGRESQL, SQLITE = (each.dialect() for each in _dialects)


class Pair:
    """The same calls on both databases, from plain code."""

    def __init__(self, *addresses: Any) -> None:
        self.runner = asyncio.Runner()
        self.managers = [SessionManager(address, sweep_interval=None) for address in addresses]
        for manager in self.managers:
            self.runner.run(manager.open())

    def close(self) -> None:
        """Let go of both."""
        for manager in self.managers:
            self.runner.run(manager.close())
        self.runner.close()

    def through(self, value: Any, user: str | None = None) -> list[tuple[str, Any]]:
        """The canonical text and the value that come back from each, or the refusal."""
        return [self.runner.run(_through(manager, value, user)) for manager in self.managers]


async def _through(manager: SessionManager, value: Any, user: str | None) -> tuple[str, Any]:
    try:
        new = await manager.create_session(user, value)
    except InvalidArgument as error:
        return "refused", str(error)
    id = parse_id(new.id)
    assert id is not None
    record = await manager.store.get(id)
    validated = await manager.validate_session(new.token)
    listed = [session for session in await manager.list_sessions(user) if session.id == new.id]
    assert record is not None
    assert validated is not None
    assert [validated.metadata] == [session.metadata for session in listed]
    assert (record.user_id, validated.user_id) == (user, user)
    await manager.delete_session(new.token)
    # Not the stored text: jsonb writes a large float out in full. What is read is the same value, and so its text.
    assert metadata_rules.decode(record.metadata) == validated.metadata
    return metadata_rules.canonical(validated.metadata), validated.metadata


@pytest.fixture
def both(migrated_database: MigratedDatabases, tmp_path: Path) -> Iterator[Pair]:
    """A SQLite file and a PostgreSQL database."""
    pair = Pair(tmp_path / "sessions.db", migrated_database(None))
    yield pair
    pair.close()


modest = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def same(a: Any, b: Any) -> bool:
    """Equal, and of equal types all the way down: 1, 1.0 and True are three values."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) and repr(a) == repr(b)


@modest
@given(value=metadata)
@example(value={"a": 1e2, "b": -0.0, "c": 5e-324, "d": 1.7976931348623157e308, "e": 1e22, "f": 2**53, "g": -(2**53)})
@example(value={"bb": 1, "a": 2, "é": 3, "aa": 4, "": 5})
@example(value={"a": '\x01\x7f\u2028\U0001f600\ufffe"\\/'})
@example(value={"a": [[], {}, [{}], None, True, 1, 1.5]})
def test_both_give_back_the_same(both: Pair, value: dict[str, Any]) -> None:
    """Promise 9: what goes in comes out, the same value of the same types in the same order on both databases."""
    (text, found), (other_text, other_found) = both.through(value)
    assert text == other_text
    assert same(found, other_found)
    if text != "refused":
        assert found == value
        assert text == metadata_rules.canonical(value)


@modest
@given(value=anything | metadata, user=st.none() | st.text(max_size=3) | st.sampled_from(["x" * 255, "x" * 256, "a\0"]))
@example(value={"a": 2**53 + 1}, user=None)
@example(value={"a": float("nan")}, user=None)
@example(value={"a": "\ud800"}, user=None)
@example(value={"a": "x" * 16_376}, user="u")
@example(value={"a": "x" * 16_377}, user="u")
@example(value={str(number): 1 for number in range(65)}, user="u")
@example(value={}, user="\u0301")
def test_both_refuse_the_same(both: Pair, value: Any, user: str | None) -> None:
    """Promise 9: no input is taken by one database and refused by the other, and the words are the same."""
    first, second = both.through(value, user)
    assert same(list(first), list(second))


# Times


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001 - hypothesis adds the zones
def test_an_instant_goes_through_sqlite_to_the_microsecond(when: datetime) -> None:
    """Promise 9: SQLite's whole microseconds hold every instant, whatever zone it was given in."""
    kept = Instant().process_bind_param(when, SQLITE)
    assert isinstance(kept, int)
    back = Instant().process_result_value(kept, SQLITE)
    # Compared in UTC: between zones Python finds no two times equal that a clock shows twice.
    assert back == when.astimezone(UTC)
    assert back is not None
    assert back.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused() -> None:
    """Promise 4: a time without a zone means another instant on every machine."""
    for dialect in (SQLITE, POSTGRESQL):
        with pytest.raises(ValueError, match="naive"):
            Instant().process_bind_param(datetime(2026, 1, 1), dialect)  # noqa: DTZ001 - that is the point


def test_nothing_stays_nothing() -> None:
    """Promise 9: null is null, and PostgreSQL's own values pass as they are."""
    when = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    for dialect in (SQLITE, POSTGRESQL):
        assert Instant().process_bind_param(None, dialect) is None
        assert Instant().process_result_value(None, dialect) is None
        assert Span().process_bind_param(None, dialect) is None
    assert Instant().process_bind_param(when, POSTGRESQL) is when
    assert Instant().process_result_value(when, POSTGRESQL) is when
    assert Span().process_bind_param(timedelta(seconds=1), POSTGRESQL) == timedelta(seconds=1)
    assert Span().process_bind_param(timedelta(seconds=1), SQLITE) == 1_000_000


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_525)))
def test_a_span_is_counted_in_microseconds(span: timedelta) -> None:
    """Promise 9: no length of time is rounded."""
    assert timedelta(microseconds=microseconds(span)) == span
    assert instant(microseconds(span)) - EPOCH == span
    assert instant(0) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["public", "a", "_", "Mixed_Case9", "select", "a" * 63])
def test_a_plain_schema_name(name: str) -> None:
    """S-56: what needs no quoting tricks is taken as it is."""
    assert checked_schema(name) == name
    assert tables(name).sessions.schema == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a.b", 'a"b', "1a", "a-b", "a\n", "é", "a" * 64, None, 1, b"a"])
def test_another_schema_name_is_refused(name: Any) -> None:
    """S-56: everything else, in the strict pattern or out of it by one character, is not."""
    with pytest.raises(InvalidArgument, match="plain name"):
        checked_schema(name)


@given(st.uuids())
def test_an_id_is_read_as_uuid_reads_it(id: UUID) -> None:
    """Promise 9: it is the same value in every respect, whatever the way in which it was made."""
    read = uuid_of(id.hex)
    assert (read, str(read), hash(read), read.is_safe) == (id, str(id), hash(id), id.is_safe)
    assert copy.copy(read) == id
    assert uuid_of(str(id)) == id


@given(st.one_of(st.text("0123456789abcdefX-+_ ", min_size=31, max_size=33), st.text()))
@example("-" + "0" * 31)
@example("0" * 31 + "g")
def test_what_is_no_id_is_read_as_uuid_reads_it(text: str) -> None:
    """F-48: SQLite holds what another program wrote, and that is refused as before."""
    try:
        expected: object = UUID(hex=text)
    except ValueError:
        expected = None
    try:
        read: object = uuid_of(text)
    except ValueError:
        read = None
    assert read == expected
