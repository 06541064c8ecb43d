"""Every route, once as it is meant to be used."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from holdfast.api.answers import CreatedAnswer, DevicesAnswer, PageAnswer, SessionAnswer, StatsAnswer, ValidateAnswer
from holdfast.server.app import create_app
from holdfast.sessions.manager import MAX_PAGE
from tests.api.api import APPLICATION, OPERATOR, SETTINGS, Api, running


def moment(text: str) -> datetime:
    """A time of an answer, which must be in the one form."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


async def test_create_answers_id_token_and_expiry(api: Api) -> None:
    """POST /sessions begins a session and shows its token; no cache may keep that."""
    response = await api.ask("POST", "sessions", APPLICATION, json={"user_id": "u1", "metadata": {"lang": "ko"}})
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    created = CreatedAnswer.model_validate(response.json())
    assert await api.manager.get_session(created.token) is not None
    assert moment(created.expires_at) > datetime.now(UTC)


async def test_validate_counts_and_tells_the_session(api: Api) -> None:
    """POST /sessions/validate answers the session and counts the activity."""
    created = await api.create(lang="ko")
    for count in (1, 2):
        response = await api.ask("POST", "sessions/validate", APPLICATION, json={"token": created["token"]})
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        answer = ValidateAnswer.model_validate(response.json())
        assert answer.session is not None
        assert answer.session.request_count == count
        assert answer.session.metadata == {"lang": "ko"}


async def test_current_session_is_shown_untouched(api: Api) -> None:
    """GET current answers the session and records no activity."""
    created = await api.create()
    for _ in range(2):
        response = await api.ask("GET", "sessions/current", created["token"])
        assert response.headers["cache-control"] == "no-store"
        assert SessionAnswer.model_validate(response.json()).request_count == 0


async def test_ending_the_current_session_is_final(api: Api) -> None:
    """DELETE current ends the session: 204, and from then on 401."""
    created = await api.create()
    assert (await api.ask("DELETE", "sessions/current", created["token"])).status_code == 204
    assert (await api.ask("DELETE", "sessions/current", created["token"])).status_code == 401
    assert (await api.ask("GET", "sessions/current", created["token"])).status_code == 401


async def test_rotation_replaces_the_token_and_keeps_the_id(api: Api) -> None:
    """POST rotate answers a new token for the same session; the old one is dead."""
    created = await api.create()
    response = await api.ask("POST", "sessions/current/rotate", created["token"])
    assert response.headers["cache-control"] == "no-store"
    rotated = CreatedAnswer.model_validate(response.json())
    assert (rotated.id, rotated.expires_at) == (created["id"], created["expires_at"])
    assert rotated.token != created["token"]
    assert (await api.ask("GET", "sessions/current", created["token"])).status_code == 401
    assert (await api.ask("GET", "sessions/current", rotated.token)).status_code == 200


async def test_a_ticket_opens_its_session_once_at_its_origin(api: Api) -> None:
    """POST ticket answers a ticket that can be redeemed once, at the origin it names."""
    created = await api.create()
    body = {"origin": "https://app.example.com"}
    response = await api.ask("POST", "sessions/current/ticket", created["token"], json=body)
    assert response.status_code == 200
    ticket = response.json()["ticket"]
    assert moment(response.json()["expires_at"]) > datetime.now(UTC)
    session = await api.manager.redeem_ticket(ticket, "https://app.example.com")
    assert session is not None
    assert session.id == created["id"]
    assert await api.manager.redeem_ticket(ticket, "https://app.example.com") is None


async def test_a_ticket_needs_no_body(api: Api) -> None:
    """POST ticket without a body, or with an empty one, gives a ticket without an origin."""
    created = await api.create()
    bodies: tuple[dict[str, str] | None, ...] = (None, {})
    for body in bodies:
        response = await api.ask("POST", "sessions/current/ticket", created["token"], json=body)
        assert await api.manager.redeem_ticket(response.json()["ticket"]) is not None


async def test_devices_lists_the_users_sessions_and_marks_this_one(api: Api) -> None:
    """GET devices answers all sessions of the same user, in pages."""
    first, second = await api.create(), await api.create()
    await api.create("u2")
    response = await api.ask("GET", "sessions/current/devices", second["token"])
    devices = DevicesAnswer.model_validate(response.json())
    assert {device.id: device.current for device in devices.sessions} == {first["id"]: False, second["id"]: True}
    assert devices.next is None
    page = (await api.ask("GET", "sessions/current/devices?limit=1", second["token"])).json()
    assert page["next"] == page["sessions"][0]["id"]
    rest = (await api.ask("GET", f"sessions/current/devices?limit=1&after={page['next']}", second["token"])).json()
    assert {page["next"], rest["sessions"][0]["id"]} == {first["id"], second["id"]}
    assert rest["next"] is None


async def test_an_anonymous_session_sees_only_itself(api: Api) -> None:
    """Sessions without a user are nobody's devices but their own."""
    mine, other = await api.create(None), await api.create(None)
    for query in ("", "?limit=1"):
        page = (await api.ask("GET", f"sessions/current/devices{query}", mine["token"])).json()
        assert [device["id"] for device in page["sessions"]] == [mine["id"]]
        assert page["next"] is None
    response = await api.ask("DELETE", f"sessions/current/devices/{other['id']}", mine["token"])
    assert response.status_code == 404
    assert await api.show(other["id"]) is not None
    assert (await api.ask("DELETE", f"sessions/current/devices/{mine['id']}", mine["token"])).status_code == 204


async def test_a_user_ends_another_device(api: Api) -> None:
    """DELETE devices/{id} ends another session of the same user, once."""
    first, second = await api.create(), await api.create()
    path = f"sessions/current/devices/{first['id']}"
    assert (await api.ask("DELETE", path, second["token"])).status_code == 204
    assert await api.show(first["id"]) is None
    assert (await api.ask("DELETE", path, second["token"])).status_code == 404


async def test_the_own_token_extends_and_changes_metadata_when_enabled(api: Api) -> None:
    """POST current/extend and PATCH current/metadata work where they are on."""
    created = await api.create(lang="ko", draft=1)
    extended = await api.ask("POST", "sessions/current/extend", created["token"], json={"hours": 48})
    assert moment(extended.json()["expires_at"]) > moment(created["expires_at"])
    body = {"changes": {"lang": "en", "draft": None}}
    changed = await api.ask("PATCH", "sessions/current/metadata", created["token"], json=body)
    assert changed.json()["metadata"] == {"lang": "en"}


async def test_the_optional_routes_are_not_there_by_default() -> None:
    """Both answer 404 unless they are enabled, to every credential."""
    async with running() as api:
        created = await api.create()
        for credential in (created["token"], APPLICATION, OPERATOR):
            extended = await api.ask("POST", "sessions/current/extend", credential, json={"hours": 48})
            changed = await api.ask("PATCH", "sessions/current/metadata", credential, json={"changes": {"a": 1}})
            assert (extended.status_code, changed.status_code) == (404, 404)
        shown = await api.show(created["id"])
        assert shown is not None
        assert (shown["expires_at"], shown["metadata"]) == (created["expires_at"], {})


async def test_the_application_changes_a_session_by_id(api: Api) -> None:
    """PATCH {id}/metadata and POST {id}/extend act on the session; a missing one is a 404."""
    created = await api.create(lang="ko")
    changed = await api.ask("PATCH", f"sessions/{created['id']}/metadata", APPLICATION, json={"changes": {"a": 1}})
    assert changed.json()["metadata"] == {"lang": "ko", "a": 1}
    extended = await api.ask("POST", f"sessions/{created['id']}/extend", APPLICATION, json={"hours": 48})
    assert moment(extended.json()["expires_at"]) > moment(created["expires_at"])
    assert (await api.ask("POST", f"sessions/{created['id']}/extend", APPLICATION)).status_code == 200
    await api.manager.end_session(created["id"])
    for method, path, body in (("PATCH", "metadata", {"changes": {}}), ("POST", "extend", {"hours": 1})):
        gone = await api.ask(method, f"sessions/{created['id']}/{path}", APPLICATION, json=body)
        assert gone.status_code == 404


async def test_all_sessions_of_a_user_end_but_one(api: Api) -> None:
    """DELETE users/{user_id}/sessions ends all of a user's sessions, or all but the one to keep."""
    kept, *others = [await api.create() for _ in range(3)]
    response = await api.ask("DELETE", f"users/u1/sessions?keep={kept['id']}", APPLICATION)
    assert response.json() == {"revoked": 2}
    assert await api.show(kept["id"]) is not None
    assert [await api.show(other["id"]) for other in others] == [None, None]
    assert (await api.ask("DELETE", "users/u1/sessions", APPLICATION)).json() == {"revoked": 1}


async def test_the_operator_sees_and_ends_sessions(api: Api) -> None:
    """GET sessions, GET and DELETE sessions/{id}: what the operator sees is what is live."""
    first, second, third = await api.create(), await api.create(), await api.create("u2")
    page = PageAnswer.model_validate((await api.ask("GET", "sessions?user_id=u1", OPERATOR)).json())
    assert {each.id for each in page.sessions} == {first["id"], second["id"]}
    seen: list[str] = []
    after = ""
    while True:
        page = PageAnswer.model_validate((await api.ask("GET", f"sessions?limit=2{after}", OPERATOR)).json())
        seen += [each.id for each in page.sessions]
        if page.next is None:
            break
        after = f"&after={page.next}"
    assert sorted(seen) == sorted(each["id"] for each in (first, second, third))
    assert (await api.ask("DELETE", f"sessions/{first['id']}", OPERATOR)).status_code == 204
    assert (await api.ask("DELETE", f"sessions/{first['id']}", OPERATOR)).status_code == 404
    assert await api.show(first["id"]) is None


@pytest.mark.parametrize("limit", [2, MAX_PAGE])
async def test_a_full_last_page_is_the_last(api: Api, limit: int) -> None:
    """`next` is null when nothing follows, also behind a page that is exactly full, and at the largest limit."""
    for number in range(limit):
        last = await api.manager.create_session("u1", {"number": number})
    for path, credential in (("sessions", OPERATOR), ("sessions/current/devices", last.token)):
        page = (await api.ask("GET", f"{path}?limit={limit}", credential)).json()
        assert (len(page["sessions"]), page["next"]) == (limit, None)
    await api.manager.create_session("u1")
    for path, credential in (("sessions", OPERATOR), ("sessions/current/devices", last.token)):
        page = (await api.ask("GET", f"{path}?limit={limit}", credential)).json()
        assert (len(page["sessions"]), page["next"]) == (limit, page["sessions"][-1]["id"])
        rest = (await api.ask("GET", f"{path}?limit={limit}&after={page['next']}", credential)).json()
        assert (len(rest["sessions"]), rest["next"]) == (1, None)


async def test_cleanup_removes_what_has_expired(api: Api) -> None:
    """POST cleanup answers how many expired sessions it removed."""
    await api.create()
    api.clock.advance(25 * 3600)
    live = await api.create()
    assert (await api.ask("POST", "sessions/cleanup", OPERATOR)).json() == {"removed": 1}
    assert await api.show(live["id"]) is not None


async def test_stats_count_live_sessions(api: Api) -> None:
    """GET stats answers the exact number of live sessions and the policy in force."""
    await api.create()
    stats = StatsAnswer.model_validate((await api.ask("GET", "stats", OPERATOR)).json())
    assert (stats.active_sessions, stats.lifetime_seconds) == (1, 86_400)


async def test_stats_on_request_say_what_is_kept(api: Api, tmp_path: Path) -> None:
    """With `hours` the answer has what `holdfast sessions stats` has; a store that cannot count says so."""
    assert (await api.ask("GET", "stats?hours=24", OPERATOR)).status_code == 422
    settings = replace(SETTINGS, sqlite_path=tmp_path / "sessions.db")
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://holdfast.test") as client,
    ):
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        for device in ("phone", "phone", "desk"):
            body = {"user_id": "u1", "metadata": {"device": device}}
            assert (await client.post("/api/v1/sessions", json=body, headers=headers)).status_code == 201
        plain = (await client.get("/api/v1/stats", headers=headers)).json()
        assert "statistics" not in plain
        asked = (await client.get("/api/v1/stats?hours=1&top=1", headers=headers)).json()
        found = StatsAnswer.model_validate(asked).statistics
        assert found is not None
        assert (found.live, found.ended, sum(hour.created for hour in found.hours)) == (3, 0, 3)
        assert [(share.name, share.live) for share in found.devices] == [("phone", 2)]
        assert moment(found.at) > datetime(2026, 1, 1, tzinfo=UTC)
        assert (await client.get("/api/v1/stats?hours=0", headers=headers)).status_code == 422


async def test_erasing_a_user_leaves_no_trace(api: Api) -> None:
    """DELETE users/{user_id} deletes live and ended sessions of that user, and no one else's."""
    ended, live, other = await api.create(), await api.create(), await api.create("u2")
    await api.manager.end_session(ended["id"])
    assert (await api.ask("DELETE", "users/u1", OPERATOR)).json() == {"erased": 2}
    assert await api.manager.why_ended(live["token"]) == "unknown"
    assert await api.show(other["id"]) is not None


async def test_the_operator_may_do_what_the_application_may(api: Api) -> None:
    """Every route of the application opens to the operator too."""
    created = (await api.ask("POST", "sessions", OPERATOR, json={"user_id": "u1"})).json()
    validated = await api.ask("POST", "sessions/validate", OPERATOR, json={"token": created["token"]})
    assert validated.json()["active"] is True
    assert (await api.ask("DELETE", "users/u1/sessions", OPERATOR)).json() == {"revoked": 1}
