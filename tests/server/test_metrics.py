"""What can be counted, and what must not be in a label."""

from tests.api.api import APPLICATION, OPERATOR, Api


async def scraped(api: Api) -> str:
    """What `/metrics` says now."""
    response = await api.ask("GET", "http://holdfast.test/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return response.text


async def test_requests_and_sessions_are_counted(api: Api) -> None:
    """Requests by template and status; sessions created, validated and refused."""
    created = await api.create()
    await api.ask("POST", "sessions/validate", APPLICATION, json={"token": created["token"]})
    await api.ask("POST", "sessions/validate", APPLICATION, json={"token": "wrong"})
    await api.ask("GET", "stats")
    text = await scraped(api)
    for line in (
        'holdfast_http_requests_total{method="POST",route="/api/v1/sessions/validate",status="200"} 2.0',
        'holdfast_http_requests_total{method="GET",route="/api/v1/stats",status="401"} 1.0',
        'holdfast_http_request_seconds_count{route="/api/v1/sessions"} 1.0',
        'holdfast_sessions_total{event="created"} 1.0',
        'holdfast_sessions_total{event="validated"} 1.0',
        'holdfast_sessions_total{event="refused"} 2.0',
        "holdfast_ready 1.0",
    ):
        assert line in text


async def test_no_label_names_anyone(api: Api) -> None:
    """S-69: no user, id, token, address or unknown path or method becomes a label, however often it is asked."""
    created = await api.create("somebody")
    before = (await scraped(api)).count("holdfast_http_requests_total{")
    await api.ask("GET", f"sessions/{created['id']}", OPERATOR)
    await api.ask("DELETE", "users/somebody/sessions", APPLICATION)
    for number in range(50):
        await api.ask("GET", f"http://holdfast.test/path-{number}")
        await api.ask(f"VERB{number}", "sessions", OPERATOR)
        await api.ask("GET", f"sessions/{created['id'][:-2]}{number:02d}", OPERATOR)
    text = await scraped(api)
    for secret in ("somebody", created["id"], created["token"], "192.0.2.1", "path-", "VERB", APPLICATION):
        assert secret not in text
    assert text.count("holdfast_http_requests_total{") <= before + 8
