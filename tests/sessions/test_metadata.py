"""The canonical form of metadata, and how changes merge: laws, tried on random values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.sessions.metadata import MAX_BYTES, MAX_INTEGER, canonical, decode, merge
from holdfast.testing.suite_metadata import ACCEPTED, AWKWARD, REFUSED, RFC_7396, canonical_kinds, kinds

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
numbers = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(text, values, max_size=6)


@given(objects)
def test_the_canonical_form_gives_the_value_back(metadata: dict[str, Any]) -> None:
    """Decoded, it is equal to what went in, with every number of its canonical kind."""
    back = decode(canonical(metadata))
    assert back == metadata
    assert kinds(back) == kinds(canonical_kinds(metadata))


@given(objects)
def test_the_canonical_form_is_final(metadata: dict[str, Any]) -> None:
    """Made canonical twice is the same as once, and the value given is not changed."""
    before = json.dumps(metadata)
    once = canonical(metadata)
    assert canonical(decode(once)) == once
    assert json.dumps(metadata) == before


@given(objects, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(metadata: dict[str, Any], chance: Any) -> None:
    """Equal values have equal texts, whatever order they were put together in."""
    items = list(metadata.items())
    chance.shuffle(items)
    assert canonical(dict(items)) == canonical(metadata)


@given(objects)
def test_keys_are_in_the_order_of_jsonb(metadata: dict[str, Any]) -> None:
    """By length in UTF-8, then bytewise: PostgreSQL would put them into this order anyway."""
    keys = [key.encode() for key in decode(canonical(metadata))]
    assert keys == sorted(keys, key=lambda key: (len(key), key))


@given(st.floats(min_value=2.0**53, allow_infinity=False, exclude_min=True), st.sampled_from([1, -1]))
def test_large_floats_survive_being_written_out(number: float, sign: int) -> None:
    """As jsonb gives them back, digit by digit and without an exponent, they are the same floats."""
    assert decode(f'{{"a":{int(sign * number)}}}') == {"a": sign * number}
    assert type(decode(f'{{"a":{int(number)}}}')["a"]) is float


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_decimal_notation(number: float) -> None:
    """As jsonb gives small ones back, with all their zeros, they are the same floats."""
    assert decode(f'{{"a":{number:.1100f}}}')["a"] == number


def test_the_canonical_form_is_compact() -> None:
    """No white space, nothing escaped that need not be, whole floats as integers."""
    metadata = {"bb": [1.0, -0.0, 1e2, 1e22, True], "é": 'ü/"\\\n', "a": None}
    assert canonical(metadata) == '{"a":null,"bb":[1,0,100,1e+22,true],"é":"ü/\\"\\\\\\n"}'


def test_nothing_is_an_empty_object() -> None:
    """`None` and `{}` are the same, and each decode is a dict of its own."""
    assert canonical(None) == canonical({}) == "{}"
    first = decode("{}")
    first["a"] = 1
    assert decode("{}") == {}


def test_decoding_gives_fresh_values() -> None:
    """Two decodes of one text share nothing."""
    stored = canonical(AWKWARD)
    first = decode(stored)
    first["nested"]["list"].append(1)
    assert decode(stored) == AWKWARD


@pytest.mark.parametrize("metadata", ACCEPTED, ids=range(len(ACCEPTED)))
def test_each_limit_is_allowed(metadata: Any) -> None:
    """64 keys, depth 16, 16 KiB, ±2^53 (S-51, S-52)."""
    stored = canonical(metadata)
    assert len(stored.encode()) <= MAX_BYTES
    assert decode(stored) == metadata


@pytest.mark.parametrize("metadata", REFUSED, ids=range(len(REFUSED)))
def test_beyond_each_limit_is_refused(metadata: Any) -> None:
    """One more is too many, and nothing but JSON is JSON (S-51, S-52, S-53)."""
    with pytest.raises(InvalidArgument):
        canonical(metadata)


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_depth_cannot_exhaust_the_stack(depth: int) -> None:
    """Nested as deep as one likes, it is refused, not recursed into: objects, lists, changes (S-51)."""
    objects: Any = {}
    lists: Any = []
    for _ in range(depth):
        objects, lists = {"a": objects}, [lists]
    for metadata in (objects, {"a": lists}):
        with pytest.raises(InvalidArgument):
            canonical(metadata)
        with pytest.raises(InvalidArgument):
            canonical(merge({}, metadata))
    while objects:
        # Freed level by level: the interpreter's own recursion has a limit as well.
        objects, lists = objects["a"], lists[0]


def test_a_value_that_contains_itself_is_refused() -> None:
    """A circle is deeper than any limit."""
    circle: dict[str, Any] = {}
    circle["a"] = circle
    with pytest.raises(InvalidArgument):
        canonical(circle)
    with pytest.raises(InvalidArgument):
        merge({}, circle)


def test_the_message_names_the_place() -> None:
    """Whoever sent a bad value is told where it is."""
    with pytest.raises(InvalidArgument, match=r"metadata\.a\[1\]\.b"):
        canonical({"a": [0, {"b": float("nan")}]})


def test_a_stored_text_that_is_no_object_is_an_error() -> None:
    """What no Holdfast wrote is not taken for metadata."""
    with pytest.raises(StoreRefused, match="damaged"):
        decode("[1]")


# Merging


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396, ids=range(len(RFC_7396)))
def test_the_examples_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    """Those of appendix A that metadata can have."""
    assert merge(target, patch) == result


@given(objects, objects)
def test_merging_twice_is_merging_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """So that an update may be repeated after a lost answer."""
    once = merge(target, patch)
    assert merge(once, patch) == once


@given(objects, objects)
def test_merging_changes_neither_argument(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """The result is a value of its own, at every level that was merged."""
    before = json.dumps([target, patch])
    merge(target, patch)
    assert json.dumps([target, patch]) == before


@given(objects)
def test_nothing_to_merge_changes_nothing(target: dict[str, Any]) -> None:
    """An empty object of changes is none."""
    assert merge(target, {}) == target


@given(objects, objects)
def test_only_named_keys_change(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Keys that the changes do not name stay; those that they set to null are gone."""
    result = merge(target, patch)
    assert set(result) == (set(target) | set(patch)) - {key for key in patch if patch[key] is None}
    assert all(result[key] == target[key] for key in set(target) - set(patch))


@given(objects, objects, objects)
def test_changes_of_different_keys_commute(target: Any, first: Any, second: Any) -> None:
    """Two updates that name no common key give the same result in either order."""
    second = {key: value for key, value in second.items() if key not in first}
    assert merge(merge(target, first), second) == merge(merge(target, second), first)


@pytest.mark.parametrize("changes", [None, [], "{}", 1, [("a", 1)]], ids=repr)
def test_changes_are_an_object(changes: Any) -> None:
    """Anything else is the caller's mistake, not a replacement of everything."""
    with pytest.raises(InvalidArgument):
        merge({"a": 1}, changes)
