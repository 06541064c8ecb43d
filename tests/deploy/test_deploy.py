"""What the files under `deploy/` say of settings, routes, ports and times is true of the server."""

import configparser
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types, and its stubs are one more package

from holdfast.server.app import create_app
from holdfast.settings import Settings

DEPLOY = Path("deploy")
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "monitoring" not in path.parts)
DOCUMENTS = [path for path in FILES if path.suffix == ".yaml"]


def documents(path: Path) -> list[Any]:
    """The YAML documents of a file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within a document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from nodes(each)


def defaults() -> Settings:
    return Settings.from_environment({})


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_variable_is_a_setting(path: Path) -> None:
    """A renamed setting is not left behind in a file that nobody starts in the tests."""
    variables = [field.metadata["variable"] for field in fields(Settings)]
    known = {name for variable in variables for name in (variable.name, *variable.file_names)}
    named = set(re.findall(r"\b(?:HOLDFAST_[A-Z_]+|DATABASE_URL(?:_FILE)?)\b", path.read_text()))
    assert named <= known, named - known


def test_the_probed_routes_exist() -> None:
    """What probes ask for is there, and is the right one: only readiness looks at the database."""
    routes = {getattr(route, "path", None) for route in create_app(defaults()).routes}
    container = documents(DEPLOY / "kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert set(probes.values()) <= routes
    assert "/healthz" in (DEPLOY / "Dockerfile").read_text()


def test_whoever_stops_a_server_waits_for_its_drain() -> None:
    """Delay, drain, grace and five seconds fit into the time before the kill, in each of the three."""
    settings = defaults()
    rest = settings.drain_seconds + settings.graceful_seconds + 5
    pod = documents(DEPLOY / "kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]
    delay = next(each for each in pod["containers"][0]["env"] if each["name"] == "HOLDFAST_DRAIN_DELAY_SECONDS")
    assert pod["terminationGracePeriodSeconds"] >= float(delay["value"]) + rest
    server = documents(DEPLOY / "compose/compose.yaml")[0]["services"]["server1"]
    granted = float(server["stop_grace_period"].removesuffix("s"))
    assert granted > float(server["environment"]["HOLDFAST_DRAIN_DELAY_SECONDS"]) + rest
    unit = (DEPLOY / "systemd/holdfast.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert float(stop[1]) > settings.drain_delay_seconds + rest


def test_the_ports_agree() -> None:
    """Image, proxy, service and probes mean the same port."""
    assert re.findall(r"(?:HOLDFAST_PORT=|EXPOSE )(\d+)", (DEPLOY / "Dockerfile").read_text()) == ["8000", "8000"]
    assert set(re.findall(r"server server\d:(\d+)", (DEPLOY / "proxy/nginx.conf").read_text())) == {"8000"}
    container = documents(DEPLOY / "kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]


def test_nothing_runs_as_root_or_holds_a_secret() -> None:
    """Containers have no privileges, and credentials come from files that are not in the repository."""
    for path in DOCUMENTS:
        for node in (node for document in documents(path) for node in nodes(document)):
            if "containers" in node:
                assert node["securityContext"]["runAsNonRoot"] is True, path
                for container in node["containers"]:
                    context = container["securityContext"]
                    assert context["readOnlyRootFilesystem"] is True
                    assert context["capabilities"] == {"drop": ["ALL"]}
            for name in ("DATABASE_URL", "HOLDFAST_APP_TOKEN", "HOLDFAST_ADMIN_TOKEN", "POSTGRES_PASSWORD"):
                assert name not in node, (path, name)
    assert re.search(r"^USER \d+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert not list(DEPLOY.rglob("secrets/*"))


def test_the_compose_file_holds_together() -> None:
    """Every secret and network that a service uses is declared, and the pooler is told of as one."""
    compose = documents(DEPLOY / "compose/compose.yaml")[0]
    for name, service in compose["services"].items():
        used = {each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])}
        assert used <= compose["secrets"].keys(), name
        assert set(service["networks"]) <= compose["networks"].keys()
        assert set(service.get("depends_on", [])) <= compose["services"].keys()
    pooler = configparser.ConfigParser(delimiters="=", comment_prefixes=";")
    pooler.read(DEPLOY / "compose/pgbouncer.ini")
    assert pooler["pgbouncer"]["pool_mode"] == "transaction"
    assert compose["services"]["server1"]["environment"]["HOLDFAST_POOLED"] == "true"


def test_the_proxy_passes_sockets_and_hides_what_is_inside() -> None:
    """The upgrade is passed on, silence is allowed for longer than a ping, no query or header is logged."""
    text = (DEPLOY / "proxy/nginx.conf").read_text()
    for line in ("proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection $connection_upgrade;"):
        assert line in text
    timeout = re.search(r"proxy_read_timeout (\d+)s;", text)
    assert timeout is not None
    assert int(timeout[1]) > 2 * 20
    shape = re.search(r"log_format quiet '(.*)';", text)
    assert shape is not None
    assert not re.search(r"\$(request|args|query_string|request_uri|http_\w+)\b", shape[1])
    assert "metrics|readyz|healthz|docs" in text
    assert text.count("{") == text.count("}")
