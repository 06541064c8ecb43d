"""Metadata: what is accepted, what comes back, and how changes merge."""

import asyncio
import json
from typing import Any

import pytest

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.metadata import MAX_BYTES, MAX_DEPTH, MAX_KEYS
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite_base import INJECTIONS, SuiteBase, known, present

AWKWARD: dict[str, Any] = {
    "integral float": 1e2,
    "negative zero": -0.0,
    "large float": 1e300,
    "largest float": 1.7976931348623157e308,
    "bound": 2**53,
    "lower bound": -(2**53),
    "bound as float": float(2**53),
    "float beyond the bound": 1e22,
    "smallest float": 5e-324,
    "tenth": 0.1,
    "third": 1 / 3,
    "true": True,
    "null": None,
    "one and true": [1, True, 1.0, 0, False, 0.0, ""],
    "nested": {"list": [[], {}, [{"deep": [None]}]], "": {"": ""}},
    "text": "héllo \N{HANGUL SYLLABLE GA} \N{GRINNING FACE} \N{COMBINING ACUTE ACCENT}e é",
    "escapes": 'quote " backslash \\ slash / tab \t newline \n return \r bell \a delete \x7f',
    "unusual": "\u2028 \ufeff \uffff \ue000 \U0010ffff",
    "looks escaped": "\\u0000 \\n &amp; %00",
    "\N{GRINNING FACE}": "\N{GRINNING FACE}",
    "\uffff": "sorts before the face in UTF-8 and after it in UTF-16",
    "z": 1,
    "aa": 2,
    "é": 3,
    "numeric text": "1e2",
    "created_at": "a name of a column",
    "__proto__": {"x": 1},
}

# RFC 7396, appendix A, the examples whose target and patch are both objects.
RFC_7396: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def nested(depth: int) -> dict[str, Any]:
    """Metadata of so many objects, one in the other."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def sized(size: int) -> dict[str, Any]:
    """Metadata whose JSON text takes so many bytes."""
    return {"a": "x" * (size - len('{"a":""}'))}


ACCEPTED = [
    {str(n): n for n in range(MAX_KEYS)},
    nested(MAX_DEPTH),
    sized(MAX_BYTES),
    {"a": "é" * ((MAX_BYTES - 8) // 2)},
    {"a": [1] * 5000},
    {"many": {str(n): n for n in range(500)}},
    {"k" * 1000: 1},
    {"control": "\x01\x1f\x7f"},
]
REFUSED: list[Any] = [
    {str(n): n for n in range(MAX_KEYS + 1)},
    nested(MAX_DEPTH + 1),
    {"a": json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)},
    nested(900),
    sized(MAX_BYTES + 1),
    {"a": "é" * ((MAX_BYTES - 8) // 2 + 1)},
    {"a": 2**53 + 1},
    {"a": -(2**53) - 1},
    {"a": 10**5000},
    {"a": float("nan")},
    {"a": [float("inf")]},
    {"a": {"b": float("-inf")}},
    {"a": "NUL \0"},
    {"NUL \0": 1},
    {"a": "surrogate \ud800"},
    {"\udfff": 1},
    {1: "a key that is no string"},
    {"a": {None: 1}},
    {"a": (1, 2)},
    {"a": {1, 2}},
    {"a": b"bytes"},
    {"a": object()},
    [],
    "{}",
    0,
    False,
]


class MetadataSuite(SuiteBase):
    """The same values are accepted, refused and given back by every store (promise 9)."""

    async def test_awkward_values_come_back_as_they_were(self, sessions: SessionManager) -> None:
        """Every value JSON can say comes back equal from every method, its numbers in canonical kind."""
        new = await sessions.create_session(user_id="u1", metadata=AWKWARD)
        updated = present(await sessions.update_metadata(new.token, {"integral float": 1e2}))
        answers = [
            updated,
            present(await sessions.validate_session(new.token)),
            present(await sessions.get_session(new.token)),
            present(await sessions.get_by_id(new.id)),
            *await sessions.list_sessions("u1"),
        ]
        for session in answers:
            assert session.metadata == AWKWARD
            assert {key: kinds(value) for key, value in session.metadata.items()} == {
                key: kinds(value) for key, value in canonical_kinds(AWKWARD).items()
            }

    async def test_keys_come_back_in_one_order(self, sessions: SessionManager) -> None:
        """Shorter keys first, then bytewise, at every level: the order does not tell which store it was."""
        metadata = {"b": 1, "aa": 2, "a": {"\N{GRINNING FACE}": 1, "zz": 2, "é": 3, "y": 4}, "B": 5, "": 6}
        token, _ = await sessions.create_session(metadata=metadata)
        for _ in range(2):
            session = present(await sessions.validate_session(token))
            assert json.dumps(session.metadata, ensure_ascii=False) == (
                '{"": 6, "B": 5, "a": {"y": 4, "zz": 2, "é": 3, "\N{GRINNING FACE}": 1}, "b": 1, "aa": 2}'
            )
            await sessions.update_metadata(token, {"a": {"y": 4}})

    async def test_values_at_a_limit_are_accepted(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """Each limit itself is allowed, at creation and as the result of a merge (S-51)."""
        for number, metadata in enumerate(ACCEPTED):
            with subtests.test(str(number)):
                created, _ = await sessions.create_session(metadata=metadata)
                updated, _ = await sessions.create_session()
                await sessions.update_metadata(updated, metadata)
                for token in (created, updated):
                    assert present(await sessions.get_session(token)).metadata == metadata

    async def test_values_beyond_a_limit_are_refused(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """`InvalidArgument`, no session, and nothing changed (S-51, S-52, S-53)."""
        new = await sessions.create_session(metadata={"kept": 1})
        for number, metadata in enumerate(REFUSED):
            with subtests.test(str(number)):
                with pytest.raises(InvalidArgument):
                    await sessions.create_session(metadata=metadata)
                with pytest.raises(InvalidArgument):
                    await sessions.update_metadata(new.token, metadata)
                with pytest.raises(InvalidArgument):
                    await sessions.update_metadata_by_id(new.id, metadata)
                assert await sessions.list_sessions() == [await sessions.get_session(new.token)]
        assert present(await sessions.get_session(new.token)).metadata == {"kept": 1}

    async def test_the_limits_apply_to_the_result(self, sessions: SessionManager) -> None:
        """Small changes cannot add up beyond a limit; a refusal changes nothing, and removing makes room."""
        full = {str(n): n for n in range(MAX_KEYS)}
        token, _ = await sessions.create_session(metadata=full)
        with pytest.raises(InvalidArgument):
            await sessions.update_metadata(token, {"one more": 1})
        assert present(await sessions.get_session(token)).metadata == full
        session = present(await sessions.update_metadata(token, {"one more": 1, "0": None}))
        assert len(session.metadata) == MAX_KEYS
        token, _ = await sessions.create_session(metadata=sized(MAX_BYTES))
        with pytest.raises(InvalidArgument):
            await sessions.update_metadata(token, {"b": 1})
        assert present(await sessions.update_metadata(token, {"a": "short", "b": 1})).metadata["b"] == 1

    async def test_changes_may_remove_more_keys_than_metadata_may_have(self, sessions: SessionManager) -> None:
        """Nulls are no part of the result and do not count towards its limits."""
        token, _ = await sessions.create_session(metadata={"a": 1})
        changes = {"a": None} | {f"absent {n}": None for n in range(MAX_KEYS * 2)}
        assert present(await sessions.update_metadata(token, changes)).metadata == {}

    async def test_merging_follows_rfc_7396(self, sessions: SessionManager, subtests: pytest.Subtests) -> None:
        """The examples of appendix A that begin with an object, by token and by id."""
        for target, patch, result in RFC_7396:
            with subtests.test(f"{target} and {patch}"):
                new = await sessions.create_session(metadata=target)
                assert present(await sessions.update_metadata(new.token, patch)).metadata == result
                assert present(await sessions.get_session(new.token)).metadata == result
                other = await sessions.create_session(metadata=target)
                assert present(await sessions.update_metadata_by_id(other.id, patch)).metadata == result

    async def test_an_update_touches_nothing_else(self, sessions: SessionManager, clock: MovableClock) -> None:
        """Count, activity and expiry stay as they were."""
        token, _ = await sessions.create_session(user_id="u1")
        before = present(await sessions.validate_session(token))
        clock.advance(60)
        after = present(await sessions.update_metadata(token, {"user_id": "u2", "expires_at": "never"}))
        assert after.user_id == "u1"
        assert (after.expires_at, after.last_activity) == (before.expires_at, before.last_activity)
        assert (after.request_count, after.created_at) == (before.request_count, before.created_at)

    async def test_parallel_updates_all_survive(self, clock: MovableClock) -> None:
        """Updates of different keys at once, on two servers: none overwrites another."""
        async with self.two_servers(clock) as (here, there):
            token, _ = await here.create_session(metadata={"kept": True})
            answers = await asyncio.gather(
                *((here, there)[n % 2].update_metadata(token, {f"k{n}": n}) for n in range(30))
            )
            assert all(answer is not None for answer in answers)
            expected = {"kept": True} | {f"k{n}": n for n in range(30)}
            assert present(await there.get_session(token)).metadata == expected

    async def test_metadata_is_replaced_only_at_its_version(self, sessions: SessionManager) -> None:
        """The store compares the version and sets: a writer that read before another wrote is told so."""
        token, _ = await sessions.create_session()
        digest = known(token)
        read = present(await sessions.store.get(digest))
        first = present(await sessions.store.set_metadata(digest, read.metadata_version, '{"a":1}'))
        assert first.metadata_version != read.metadata_version
        assert await sessions.store.set_metadata(digest, read.metadata_version, '{"b":1}') is None
        assert await sessions.store.set_metadata(read.id, first.metadata_version, '{"c":1}') is not None
        assert present(await sessions.get_session(token)).metadata == {"c": 1}

    async def test_text_that_means_something_elsewhere_is_only_text(self, sessions: SessionManager) -> None:
        """Injections as keys and as values come back as they were (S-56)."""
        metadata = {text: text for text in INJECTIONS}
        token, _ = await sessions.create_session(metadata=metadata)
        assert present(await sessions.get_session(token)).metadata == metadata
        updated = present(await sessions.update_metadata(token, {"more": list(metadata)}))
        assert updated.metadata == metadata | {"more": INJECTIONS}


def kinds(value: Any) -> Any:
    """The types inside a value, which `==` does not tell apart for 1, 1.0 and True."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return type(value)


def canonical_kinds(value: Any) -> Any:
    """The value as the canonical form has it: a float that is a whole number within ±2^53 is an integer."""
    if isinstance(value, dict):
        return {key: canonical_kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical_kinds(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value
