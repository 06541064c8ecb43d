"""What comes in is checked whole: never a 500, and never a guess."""

import json
from typing import Any

import pytest

from holdfast.sessions.metadata import MAX_BYTES, MAX_DEPTH, MAX_KEYS
from tests.api.api import APPLICATION, OPERATOR, Api


def nested(depth: int) -> dict[str, Any]:
    """Metadata of so many levels."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def sized(size: int) -> dict[str, str]:
    """Metadata that takes so many bytes of JSON."""
    return {"a": "x" * (size - len('{"a":""}'))}


WITHIN = [nested(MAX_DEPTH), sized(MAX_BYTES), {str(n): 1 for n in range(MAX_KEYS)}, {"n": 2**53}, {"n": -(2**53)}]
BEYOND = [
    nested(MAX_DEPTH + 1),
    sized(MAX_BYTES + 1),
    {str(n): 1 for n in range(MAX_KEYS + 1)},
    {"n": 2**53 + 1},
    {"n": -(2**53) - 1},
]


@pytest.mark.parametrize("metadata", WITHIN, ids=("depth", "size", "keys", "integer", "negative"))
async def test_metadata_at_its_limits_is_kept(api: Api, metadata: dict[str, Any]) -> None:
    """S-51, S-52: exactly as much as is allowed comes back as it was sent."""
    created = await api.ask("POST", "sessions", APPLICATION, json={"metadata": metadata})
    assert created.status_code == 201
    shown = await api.show(created.json()["id"])
    assert shown is not None
    assert shown["metadata"] == metadata


@pytest.mark.parametrize("metadata", BEYOND, ids=("depth", "size", "keys", "integer", "negative"))
async def test_metadata_beyond_its_limits_reaches_no_store(api: Api, metadata: dict[str, Any]) -> None:
    """S-51, S-52: one more than is allowed is a 422 before the store is asked, in create and in changes."""
    assert (await api.ask("POST", "sessions", APPLICATION, json={"metadata": metadata})).status_code == 422
    assert api.store.calls["create"] == 0
    created = await api.create()
    response = await api.ask("PATCH", f"sessions/{created['id']}/metadata", APPLICATION, json={"changes": metadata})
    assert response.status_code == 422
    assert api.store.calls["set_metadata"] == 0


@pytest.mark.parametrize("depth", [33, 1000, 20_000])
async def test_deep_nesting_is_refused_before_it_is_parsed(api: Api, depth: int) -> None:
    """S-51: depth that would exhaust a parser is a 400, with lists and with objects."""
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        body = b'{"metadata": {"a": ' + opening * depth + b"1" + closing * depth + b"}}"
        response = await api.raw("POST", "sessions", body[:65_000])
        assert (response.status_code, response.json()["error"]) == (400, "malformed_json")


async def test_brackets_in_strings_do_not_nest(api: Api) -> None:
    """S-51: text full of brackets, quotes and backslashes is only text."""
    text = '[{"' * 100 + "\\" * 7
    created = await api.create(note=text)
    shown = await api.show(created["id"])
    assert shown is not None
    assert shown["metadata"]["note"] == text


@pytest.mark.parametrize(
    "number", ["9" * 5000, "-" + "9" * 5000, "1e999", "-1e999", "0." + "1" * 5000, "NaN", "Infinity", "-Infinity"]
)
async def test_impossible_numbers_are_refused(api: Api, number: str) -> None:
    """S-52: endless digits, overflow, NaN and infinities are a 400 wherever they stand."""
    for body in (f'{{"metadata": {{"n": {number}}}}}', f'{{"user_id": {number}}}', f'{{"metadata": {number}}}'):
        assert (await api.raw("POST", "sessions", body.encode())).status_code == 400
    created = await api.create()
    extended = await api.raw("POST", f"sessions/{created['id']}/extend", f'{{"hours": {number}}}'.encode())
    assert extended.status_code == 400


@pytest.mark.parametrize("hours", ["0", "-1", "true", '"1"', "null", "[]", "{}"])
async def test_bad_hours_are_refused(api: Api, hours: str) -> None:
    """S-52: hours are a positive number and nothing that could be taken for one."""
    created = await api.create()
    response = await api.raw("POST", f"sessions/{created['id']}/extend", f'{{"hours": {hours}}}'.encode())
    assert response.status_code == 422


async def test_many_hours_end_at_the_cap(api: Api) -> None:
    """S-52: a number of hours beyond any calendar extends to the cap."""
    created = await api.create()
    response = await api.raw("POST", f"sessions/{created['id']}/extend", b'{"hours": 1e300}')
    assert response.status_code == 200


@pytest.mark.parametrize("text", [r"\u0000", r"a\u0000b", r"\ud800", r"\udfff\ud800"])
async def test_text_no_database_can_hold_is_refused(api: Api, text: str) -> None:
    """S-53: NUL and lone surrogates are a 422 in a user id, a metadata value, a metadata key and an origin."""
    for body in (f'{{"user_id": "{text}"}}', f'{{"metadata": {{"a": "{text}"}}}}', f'{{"metadata": {{"{text}": 1}}}}'):
        assert (await api.raw("POST", "sessions", body.encode())).status_code == 422
    token = (await api.create())["token"]
    origin = await api.raw("POST", "sessions/current/ticket", f'{{"origin": "{text}"}}'.encode(), token)
    assert origin.status_code == 422


@pytest.mark.parametrize("text", ["a\nb", "\x1b[2J", "\x7f", "", "x" * 256])
async def test_bad_user_ids_are_refused_everywhere(api: Api, text: str) -> None:
    """S-53, S-54: control characters, nothing, and more than 255 characters are no user id, in body, path and query."""
    assert (await api.ask("POST", "sessions", APPLICATION, json={"user_id": text})).status_code == 422
    assert (await api.ask("GET", "sessions", OPERATOR, params={"user_id": text})).status_code == 422
    if text:
        from urllib.parse import quote

        assert (await api.ask("DELETE", f"users/{quote(text)}/sessions", APPLICATION)).status_code == 422


@pytest.mark.parametrize(
    "user_id",
    ["x" * 255, "a/b", "a/sessions", "sessions", "/", "a%2Fb", "%", "100%25", "a b", "é", "a?b#c", ".", "..a", "用户"],
)
async def test_user_ids_are_taken_from_the_path_exactly(api: Api, user_id: str) -> None:
    """S-54: any user id, encoded once in the path, names exactly that user, for revoking and for erasing."""
    from urllib.parse import quote

    path = f"users/{quote(user_id, safe='')}".replace("users/.", "users/%2E")
    await api.create(user_id)
    bystander = await api.create("a")
    revoked = await api.ask("DELETE", f"{path}/sessions", APPLICATION)
    assert revoked.json() == {"revoked": 1}, revoked.text
    await api.create(user_id)
    erased = await api.ask("DELETE", path, OPERATOR)
    assert erased.json() == {"erased": 2}, erased.text
    assert await api.show(bystander["id"]) is not None


async def test_a_path_that_is_not_utf_8_names_nobody(api: Api) -> None:
    """S-54: bytes that are no text are a 404 and not some other user."""
    await api.create("\ufffd")
    assert (await api.ask("DELETE", "users/%FF/sessions", APPLICATION)).status_code == 404
    assert await api.manager.get_active_session_count() == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": "u1", "user_id": "u2"}',
        b'{"metadata": {"a": 1, "a": 2}}',
        b'{"metadata": {"a": {"b": 1, "\\u0062": 2}}}',
    ],
)
async def test_duplicate_keys_are_refused(api: Api, body: bytes) -> None:
    """S-55: one key twice in any object is a 400."""
    response = await api.raw("POST", "sessions", body)
    assert (response.status_code, response.json()["message"]) == (400, "an object names one key twice")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"1", b'"x"', b"null", b"{}x", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{'a': 1}", b'{"a": 1,}', b"\x00"],
)
async def test_what_is_not_a_json_object_is_refused(api: Api, body: bytes) -> None:
    """S-55: other JSON values, other encodings and almost-JSON are a 400."""
    assert (await api.raw("POST", "sessions", body)).status_code == 400


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "",
        "x",
    ],
)
async def test_other_content_types_are_refused(api: Api, content_type: str) -> None:
    """S-65: a body that does not say it is JSON in UTF-8 is a 415, and creates nothing."""
    response = await api.ask("POST", "sessions", APPLICATION, content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert api.store.calls["create"] == 0


@pytest.mark.parametrize("text", ["'; DROP TABLE sessions; --", '" OR 1=1', "%", "_", "\\", "$$", "u1' --", "*"])
async def test_injection_is_only_text(api: Api, text: str) -> None:
    """S-56: quotes, wildcards and comments in every parameter name a user that is not there, and harm nobody."""
    await api.create("u1", note=text)
    listed = await api.ask("GET", "sessions", OPERATOR, params={"user_id": text})
    assert listed.json()["sessions"] == []
    for name in ("limit", "after"):
        assert (await api.ask("GET", "sessions", OPERATOR, params={name: text})).status_code == 422
    assert (await api.ask("DELETE", "users/u1/sessions", APPLICATION, params={"keep": text})).status_code == 422
    assert await api.manager.get_active_session_count() == 1


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1000000000", "9" * 5000, "1.5", "x", "", "true"])
async def test_page_sizes_are_capped(api: Api, limit: str) -> None:
    """S-64: a limit outside 1 to 1000 is a 422, for the operator's list and for devices."""
    token = (await api.create())["token"]
    assert (await api.ask("GET", "sessions", OPERATOR, params={"limit": limit})).status_code == 422
    assert (await api.ask("GET", "sessions/current/devices", token, params={"limit": limit})).status_code == 422


async def test_unknown_fields_parameters_and_methods_are_refused(api: Api) -> None:
    """S-65: a field, a query parameter or a method that a route does not declare is refused."""
    created = await api.create()
    assert (await api.ask("POST", "sessions", APPLICATION, json={"usr_id": "u1"})).json() == {
        "error": "invalid",
        "message": "body.usr_id: unknown field",
    }
    assert (await api.ask("GET", "sessions?lim=1", OPERATOR)).status_code == 422
    assert (await api.ask("GET", "sessions?limit=1&limit=2", OPERATOR)).status_code == 422
    assert (await api.ask("POST", "sessions?user_id=u2", APPLICATION, json={})).status_code == 422
    assert (await api.ask("GET", "sessions/current", created["token"], params={"x": "1"})).status_code == 422
    assert (await api.ask("PUT", "sessions", OPERATOR)).status_code == 405
    assert (await api.ask("GET", "sessions/validate", APPLICATION)).status_code == 405
    assert (await api.ask("TRACE", "sessions/current", created["token"])).status_code == 405
    rotated = await api.ask("POST", "sessions/current/rotate", created["token"], json={"grace": 30})
    assert rotated.status_code == 422
    assert await api.manager.get_session(created["token"]) is not None


PLACES = [
    ("POST", "sessions", "user_id"),
    ("POST", "sessions", "metadata"),
    ("POST", "sessions/validate", "token"),
    ("PATCH", "sessions/{id}/metadata", "changes"),
    ("POST", "sessions/{id}/extend", "hours"),
]


@pytest.mark.parametrize(("method", "path", "field"), PLACES)
async def test_wrong_types_never_break_the_server(api: Api, method: str, path: str, field: str) -> None:
    """S-08, S-53: every JSON type in every field gives an answer below 500."""
    created = await api.create()
    values: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        "",
        "x",
        "\U0001f600",
        [],
        [[]],
        {},
        {"": None},
        {"a": [None, {"b": 1}]},
    ]
    for value in values:
        body = json.dumps({field: value}).encode()
        response = await api.raw(method, path.format(id=created["id"]), body)
        assert response.status_code < 500, (value, response.text)
