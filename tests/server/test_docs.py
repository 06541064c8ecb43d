"""The description of the interface, and the page that shows it."""

import re
from typing import Any

from holdfast.server.docs import openapi
from tests.api.api import Api, running

METHODS = {"get", "post", "put", "patch", "delete"}


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation with its path and method."""
    return [
        (path, method, operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def walk(node: Any) -> Any:
    """Every object in a tree that is not an example."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key != "examples":
                yield from walk(value)
    elif isinstance(node, list):
        for each in node:
            yield from walk(each)


async def test_the_routes_are_those_of_the_contract(api: Api) -> None:
    """PRODUCT.md 4: these operations and no others."""
    described = {(method.upper(), path) for path, method, _ in operations(openapi(api.app))}
    assert described == {
        ("GET", "/api/v1/sessions/current"),
        ("DELETE", "/api/v1/sessions/current"),
        ("POST", "/api/v1/sessions/current/rotate"),
        ("POST", "/api/v1/sessions/current/ticket"),
        ("GET", "/api/v1/sessions/current/devices"),
        ("DELETE", "/api/v1/sessions/current/devices/{id}"),
        ("POST", "/api/v1/sessions/current/extend"),
        ("PATCH", "/api/v1/sessions/current/metadata"),
        ("POST", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions/validate"),
        ("PATCH", "/api/v1/sessions/{id}/metadata"),
        ("POST", "/api/v1/sessions/{id}/extend"),
        ("DELETE", "/api/v1/users/{user_id}/sessions"),
        ("GET", "/api/v1/sessions"),
        ("GET", "/api/v1/sessions/{id}"),
        ("DELETE", "/api/v1/sessions/{id}"),
        ("POST", "/api/v1/sessions/cleanup"),
        ("GET", "/api/v1/stats"),
        ("DELETE", "/api/v1/users/{user_id}"),
    }


async def test_every_operation_says_who_may_use_it(api: Api) -> None:
    """Each operation names its credentials: bearers all, but for the session cookie, which has its name."""
    schema = openapi(api.app)
    schemes = schema["components"]["securitySchemes"]
    cookie = schemes["SessionCookie"]
    assert (cookie["type"], cookie["in"], cookie["name"]) == ("apiKey", "cookie", "__Host-session")
    assert {scheme.get("scheme") for scheme in schemes.values() if scheme is not cookie} == {"bearer"}
    for path, method, operation in operations(schema):
        named = {name for choice in operation["security"] for name in choice}
        assert named, (path, method)
        assert named <= set(schemes)
        if "/current" in path:
            assert named == {"SessionToken", "SessionCookie"}
    assert {} not in schema["paths"]["/api/v1/sessions"]["post"]["security"]


async def test_an_anonymous_create_is_described_as_open() -> None:
    """Where anyone may create a session, the document says so."""
    async with running(allow_anonymous=True) as api:
        assert {} in openapi(api.app)["paths"]["/api/v1/sessions"]["post"]["security"]


async def test_every_body_has_an_example(api: Api) -> None:
    """Each request body and each JSON answer refers to a schema with an example."""
    schema = openapi(api.app)
    for path, method, operation in operations(schema):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [response for response in operation["responses"].values() if "content" in response]
        assert bodies, (path, method)
        for body in bodies:
            reference = body["content"]["application/json"]["schema"]["$ref"]
            assert "examples" in schema["components"]["schemas"][reference.rpartition("/")[2]], reference
        assert operation["description"]


async def test_the_document_is_whole(api: Api) -> None:
    """Every reference resolves, every id is unique, every parameter of a path is declared."""
    schema = openapi(api.app)
    assert re.fullmatch(r"3\.1\.\d", schema["openapi"])
    for node in walk(schema):
        if isinstance(node.get("$ref"), str):
            assert node["$ref"].rpartition("/")[2] in schema["components"]["schemas"]
    ids = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(ids) == len(set(ids))
    for path, _, operation in operations(schema):
        declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))


async def test_the_page_comes_from_this_server_alone(api: Api) -> None:
    """`/docs` loads only its own files, runs no script within the page, and nothing from elsewhere may run."""
    page = await api.ask("GET", "http://holdfast.test/docs")
    assert "://" not in page.text
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert not re.search(r"\son\w+=", page.text)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        served = await api.ask("GET", f"http://holdfast.test/{asset}")
        assert served.status_code == 200
        assert served.content
        assert served.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/png")
    assert (await api.ask("GET", "http://holdfast.test/openapi.json")).json() == openapi(api.app)
