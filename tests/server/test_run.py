"""Real processes on real ports: what uvicorn, signals and sockets make of the application."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx2
import pytest

from holdfast.server.run import _listen, check_exposure, for_development
from holdfast.sessions.errors import InvalidArgument
from holdfast.settings import Settings
from holdfast.sql import schema
from tests.api.api import APPLICATION, OPERATOR, bearer
from tests.cli.command import COMMAND, environment
from tests.support.kept import KEPT
from tests.support.polling import until
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres import PostgresCluster
from tests.support.stopwatch import waited

TESTING = [sys.executable, "-m", "holdfast.server.testing"]
CREDENTIALS = {"HOLDFAST_APP_TOKEN": APPLICATION, "HOLDFAST_ADMIN_TOKEN": OPERATOR}
# asyncio's own loop, also where uvloop is installed: that one never has Nagle's algorithm on.
WITHOUT_UVLOOP = [
    sys.executable,
    "-c",
    "import runpy, sys; sys.modules['uvloop'] = None; runpy.run_module('holdfast.server.testing', run_name='__main__')",
]
TALKATIVE = {**CREDENTIALS, "HOLDFAST_LOG_LEVEL": "debug"}


class Process:
    """A server in a process of its own; what it wrote to standard error is in `log`."""

    def __init__(self, arguments: list[str], folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*arguments, "--port", str(self.port)],
                cwd=folder,
                env=environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.client = httpx2.Client(base_url=f"http://{LOOPBACK}:{self.port}", timeout=30, limits=KEPT)

    def answers(self) -> bool:
        """Whether it listens yet; raises when it has ended instead."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.client.get("/healthz").status_code == 200)
        except httpx2.TransportError:
            return False

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def speak(self, *parts: bytes) -> bytes:
        """Send bytes over a connection of its own and read until it closes."""
        with socket.create_connection((LOOPBACK, self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                pass
            received = b""
            try:
                while block := connection.recv(65_536):
                    received += block
            except ConnectionResetError:
                pass
        return received


@contextmanager
def serving(arguments: list[str], folder: Path, **settings: str) -> Iterator[Process]:
    """A server that listens; killed at the end if it still runs."""
    server = Process(arguments, folder, **settings)
    try:
        until(server.answers, what="the server answers")
        yield server
    finally:
        server.client.close()
        server.process.kill()
        server.process.communicate()


def test_serving_from_sqlite_keeps_only_digests(tmp_path: Path) -> None:
    """S-02, S-10: after a session's life over HTTP its token is in no file, no log line and no output."""
    with serving([*COMMAND, "serve", "--sqlite", "sessions.db"], tmp_path, **TALKATIVE) as server:
        until(lambda: server.client.get("/readyz").status_code == 200, what="the store answers")
        created = server.client.post("/api/v1/sessions", json={"user_id": "u1"}, headers=bearer(APPLICATION)).json()
        token = created["token"]
        validated = server.client.post("/api/v1/sessions/validate", json={"token": token}, headers=bearer(APPLICATION))
        assert validated.json()["session"]["id"] == created["id"]
        server.client.get(f"/api/v1/sessions/current?token={token}", headers=bearer(token))
        server.client.get(f"/{token}", headers={"Referer": token, "User-Agent": token})
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(written) >= 2
        for path in written:
            content = path.read_bytes()
            assert token.encode() not in content, path
            assert token[4:47].encode() not in content, path
            assert token.encode().hex().encode() not in content, path
        # Restarting keeps the session: what was acknowledged is on the disk.
        assert server.stop() == 0
    with serving([*COMMAND, "serve", "--sqlite", "sessions.db"], tmp_path, **CREDENTIALS) as server:
        until(lambda: server.client.get("/readyz").status_code == 200, what="the store answers")
        assert server.client.get("/api/v1/sessions/current", headers=bearer(token)).status_code == 200


def test_a_stopping_server_finishes_what_it_began(tmp_path: Path) -> None:
    """SIGTERM: a request under way gets its answer, then the process ends with 0."""
    with serving(TESTING, tmp_path, **CREDENTIALS) as server:
        body = json.dumps({"user_id": "u1"}).encode()
        head = (
            f"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {APPLICATION}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            "Expect: 100-continue\r\n\r\n"
        ).encode()
        with socket.create_connection((LOOPBACK, server.port), timeout=30) as connection:
            connection.sendall(head)
            # The server asks for the body, so the request is under way for certain.
            assert connection.recv(1024).startswith(b"HTTP/1.1 100")
            ended = threading.Thread(target=server.stop)
            ended.start()
            until(lambda: "stopping" in server.log.read_text(), what="the server stops")
            connection.sendall(body)
            answer = b""
            while block := connection.recv(4096):
                answer += block
        assert answer.startswith(b"HTTP/1.1 201")
        ended.join(30)
        assert server.process.returncode == 0


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    """Ctrl-C twice: a request under way is given up, and the log has a sentence and no traceback."""
    with serving(TESTING, tmp_path, **CREDENTIALS) as server:
        with socket.create_connection((LOOPBACK, server.port), timeout=30) as connection:
            connection.sendall(
                f"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {APPLICATION}\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert connection.recv(1024).startswith(b"HTTP/1.1 100")
            server.process.send_signal(signal.SIGINT)
            until(lambda: "stopping" in server.log.read_text(), what="the server stops")
            server.process.send_signal(signal.SIGINT)
            # Far less than the twenty seconds that a request under way is given.
            assert server.process.wait(10) == 0
        log = server.log.read_text()
        assert "stopped at once" in log
        assert "ERROR" not in log
        assert "Traceback" not in log


def test_odd_request_targets_never_pass(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """S-62: absolute targets and odd Host headers do not change what a route asks for."""
    targets = ("http://evil.example/api/v1/stats", "/api/v1/stats#x", "//evil/api/v1/stats")
    with serving(TESTING, tmp_path, **CREDENTIALS) as server:
        for target, host in product(targets, ("x", "x/healthz?", "x#", "[::1", "")):
            with subtests.test(f"{target} of {host!r}"):
                asked = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                answer = server.speak(asked.encode())
                assert answer.split(b" ")[1] in (b"400", b"401", b"404"), answer


def test_a_real_flood_of_bytes_is_cut_off(tmp_path: Path) -> None:
    """S-63: a chunked body of 100 MB is answered with 413 long before its end, a long header line with 400."""
    with serving(TESTING, tmp_path, **CREDENTIALS) as server:
        head = (
            f"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {APPLICATION}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        ).encode()
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        sent = []

        with socket.create_connection((LOOPBACK, server.port), timeout=30) as connection:
            connection.sendall(head)
            try:
                for _ in range(6400):
                    connection.sendall(chunk)
                    sent.append(len(chunk))
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413")
        assert sum(sent) < 50_000_000
        declared = head.replace(b"Transfer-Encoding: chunked", b"Content-Length: 104857600")
        assert server.speak(declared).startswith(b"HTTP/1.1 413")
        assert server.speak(b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000).startswith(b"HTTP/1.1 4")
        assert server.client.get("/healthz").status_code == 200


def test_answers_on_one_connection_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Head and body of an answer leave at once: no delayed acknowledgement, 40 ms long, in between."""
    with serving(WITHOUT_UVLOOP, tmp_path, **CREDENTIALS) as server:
        connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=30)
        connection.connect()
        first = connection.sock
        lengths = []
        for _ in range(60):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"alive":true}'
            lengths.append(time.perf_counter() - began)
            assert connection.sock is first
        connection.close()
    # A kernel may acknowledge the first ones at once. A delay would hold all others up, a busy machine only many.
    assert sorted(lengths[20:])[10] < 0.020, lengths


def test_accepted_connections_send_at_once() -> None:
    """TCP_NODELAY is on the listener and on what it accepts: not every kernel delays where the test above looks."""
    with _listen(LOOPBACK, 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_the_answers_do_not_name_the_software(tmp_path: Path) -> None:
    """No Server header; a Date header as HTTP wants it."""
    with serving(TESTING, tmp_path, **CREDENTIALS) as server:
        headers = server.client.get("/healthz").headers
        assert "server" not in headers
        assert "date" in headers


def test_the_test_servers_clock_moves(tmp_path: Path) -> None:
    """The server of the test kit expires sessions when it is told to, and refuses to go back."""
    with serving(TESTING, tmp_path, **CREDENTIALS) as server:
        created = server.client.post("/api/v1/sessions", json={}, headers=bearer(APPLICATION)).json()
        moved = server.client.post("/testing/clock", json={"advance_seconds": 25 * 3600})
        assert moved.json()["now"] > created["expires_at"]
        current = server.client.get("/api/v1/sessions/current", headers=bearer(created["token"]))
        assert current.status_code == 401
        assert server.client.post("/testing/clock", json={"advance_seconds": -1}).status_code == 422


def test_the_development_profile_shows_its_credentials_once(tmp_path: Path) -> None:
    """`serve --dev` runs on loopback and SQLite, prints the credentials it made, and leads to the documentation."""
    unused = f"postgresql://holdfast:hunter2@{LOOPBACK}:{free_port()}/app"
    with serving([*COMMAND, "serve", "--dev"], tmp_path, DATABASE_URL=unused) as server:
        shown = dict(
            line.removeprefix("holdfast: made for this run: ").split("=", 1)
            for line in server.log.read_text().splitlines()
            if line.startswith("holdfast: made")
        )
        assert set(shown) == set(CREDENTIALS)
        until(lambda: server.client.get("/readyz").status_code == 200, what="the store answers")
        stats = server.client.get("/api/v1/stats", headers=bearer(shown["HOLDFAST_ADMIN_TOKEN"]))
        assert stats.status_code == 200
        front = server.client.get("/")
        assert (front.status_code, front.headers["location"]) == (307, "docs")
        assert (tmp_path / "data" / "sessions.db").exists()
        log = server.log.read_text()
        assert log.startswith("holdfast: DATABASE_URL is not used with --dev")
        assert "hunter2" not in log
        assert all(log.count(value) == 1 for value in shown.values())


def test_a_server_without_its_database_is_alive_and_not_ready(tmp_path: Path) -> None:
    """S-70, S-72: with nobody at the address it starts, answers 503, and logs no password."""
    address = f"postgresql://holdfast:hunter2@{LOOPBACK}:{free_port()}/app"
    with serving([*COMMAND, "serve"], tmp_path, DATABASE_URL=address, **TALKATIVE) as server:
        unavailable = {"ready": False, "reason": "unavailable", "ends": "idle"}
        until(lambda: server.client.get("/readyz").json() == unavailable, what="the first look at the store has failed")
        assert server.client.get("/readyz").status_code == 503
        answer = server.client.post("/api/v1/sessions/validate", json={"token": "x"}, headers=bearer(APPLICATION))
        assert answer.json() == {"active": False, "session": None}
        created = server.client.post("/api/v1/sessions", json={}, headers=bearer(APPLICATION))
        assert (created.status_code, created.json()["error"]) == (503, "unavailable")
        assert server.stop() == 0
        assert "hunter2" not in server.log.read_text()


def test_readiness_follows_a_real_database(tmp_path: Path, broken_postgres: Callable[..., PostgresCluster]) -> None:
    """A killed or frozen database is noticed within 5 s and found again within 10 s, by the same process."""
    cluster = broken_postgres()
    asyncio.run(schema.upgrade(cluster.address()))
    with serving([*COMMAND, "serve"], tmp_path, DATABASE_URL=cluster.address(), **CREDENTIALS) as server:

        def seconds_until(status: int, began: float, limit: float) -> float:
            # What the two of us wait for a processor meanwhile is the machine's.
            before = waited(server.process.pid) + waited(os.getpid())
            until(
                lambda: server.client.get("/readyz").status_code == status, what=f"/readyz is {status}", deadline=limit
            )
            return time.monotonic() - began - (waited(server.process.pid) + waited(os.getpid()) - before)

        seconds_until(200, time.monotonic(), 30)
        for harm, mend in ((cluster.kill, cluster.start), (cluster.freeze, cluster.thaw)):
            began = time.monotonic()
            harm()
            assert seconds_until(503, began, 30) < 5
            assert server.client.get("/readyz").json()["reason"] == "unavailable"
            assert server.client.get("/healthz").status_code == 200
            mend()
            assert seconds_until(200, time.monotonic(), 30) < 10
            created = server.client.post("/api/v1/sessions", json={}, headers=bearer(APPLICATION))
            assert created.status_code == 201
        assert server.process.poll() is None


@pytest.mark.parametrize("options", [(), ("--dev",)], ids=["plain", "dev"])
def test_a_taken_port_is_a_refusal(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A port that somebody else has is exit code 4 and one sentence; credentials are not made for nothing."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        shown = subprocess.run(
            [*COMMAND, "serve", *options, "--port", str(port)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert shown.returncode == 4
    assert shown.stderr == f"holdfast: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"HOLDFAST_ALLOWED_ORIGINS": "https://app.test/"}, "HOLDFAST_ALLOWED_ORIGINS: 'https://app.test/' is not"),
        ({"HOLDFAST_COOKIE_NAME": "__Host-app", "HOLDFAST_COOKIE_INSECURE": "true"}, "__Host-"),
    ],
)
def test_a_cookie_that_browsers_would_not_take_is_a_refusal(
    tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    """S-29, S-37: the server does not start with an origin, or a cookie, in a form that no browser knows."""
    shown = subprocess.run(
        [*COMMAND, "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 4
    assert says in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_the_development_server_takes_its_own_pages_cookie(tmp_path: Path) -> None:
    """S-29, S-33: with --dev the cookie has its name for plain HTTP, and the server's own address is on the list."""
    settings, _ = for_development(Settings(port=8123))
    assert settings.allowed_origins == ("http://127.0.0.1:8123", "http://localhost:8123")
    assert for_development(Settings(port=0))[0].allowed_origins == ()
    kept, _ = for_development(Settings(cookie_name="__Secure-x", allowed_origins=("https://a.test",)))
    assert (kept.cookie_insecure, kept.allowed_origins) == (False, ("https://a.test",))
    with serving([*COMMAND, "serve", "--dev", "--sqlite", "x.db"], tmp_path, **CREDENTIALS) as server:
        until(lambda: server.client.get("/readyz").status_code == 200, what="the store answers")
        created = server.client.post("/api/v1/sessions", json={"user_id": "u1"}, headers=bearer(APPLICATION)).json()
        cookie = {"Cookie": f"session-insecure-dev={created['token']}", "Origin": f"http://localhost:{server.port}"}
        rotated = server.client.post("/api/v1/sessions/current/rotate", headers=cookie)
        assert (rotated.status_code, "token" in rotated.json()) == (200, False)
        assert "Secure" not in rotated.headers["set-cookie"]
        assert "this is for development on one machine" in server.log.read_text()


def test_a_foreign_file_ends_the_process(tmp_path: Path) -> None:
    """A store that refuses ends the server with code 4 and the store's message."""
    (tmp_path / "foreign.db").write_text("this is no database at all, but a text of some length\n" * 100)
    shown = subprocess.run(
        [*COMMAND, "serve", "--sqlite", "foreign.db", "--port", str(free_port())],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 4, shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("holdfast: ")
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_credentials(host: str) -> None:
    """S-66: where only this machine can come, it may start without credentials."""
    check_exposure(Settings(host=host))
    development, made = for_development(Settings(host=host))
    assert set(made) == set(CREDENTIALS)
    assert all(len(value) >= 32 for value in made.values())
    assert development.application_credentials != development.operator_credentials


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1", "no-such-host.invalid"])
def test_other_addresses_need_both_credentials(host: str) -> None:
    """S-66: where others can come, and where that is not certain, both credentials have to be set."""
    for settings in (
        Settings(host=host),
        Settings(host=host, application_credentials=(APPLICATION,)),
        Settings(host=host, operator_credentials=(OPERATOR,)),
    ):
        with pytest.raises(InvalidArgument, match="not set"):
            check_exposure(settings)
    check_exposure(Settings(host=host, application_credentials=(APPLICATION,), operator_credentials=(OPERATOR,)))
    with pytest.raises(InvalidArgument, match="loopback"):
        for_development(Settings(host=host))
