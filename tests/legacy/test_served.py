"""The server and the process's own manager on a legacy file."""

import subprocess
from pathlib import Path

import httpx2

from tests.api.api import APPLICATION, OPERATOR, bearer
from tests.cli.command import COMMAND, environment, run
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.support.kept import KEPT
from tests.support.polling import until
from tests.support.ports import LOOPBACK, free_port

MANAGER = """
import asyncio, sys
from holdfast import get_session_manager

async def main():
    async with get_session_manager() as sessions:
        session = await sessions.validate_session(sys.argv[1])
        print(session.user_id, session.request_count)

asyncio.run(main())
"""


def test_the_server_serves_a_legacy_file(tmp_path: Path, berlin: str) -> None:
    """An old token is a bearer token, the operator sees it by its id, and a rotated one is good in both."""
    path = legacy_file(tmp_path / "legacy.db")
    old = OldSessionManager(path)
    token = old.create_session("u1", {"lang": "ko"})
    port = free_port()
    settings = {"HOLDFAST_APP_TOKEN": APPLICATION, "HOLDFAST_ADMIN_TOKEN": OPERATOR}
    server = subprocess.Popen(
        [*COMMAND, "serve", "--sqlite", str(path), "--port", str(port)],
        cwd=tmp_path,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx2.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30, limits=KEPT) as client:
            until(lambda: answers(client), what="the server is ready")
            current = client.get("/api/v1/sessions/current", headers=bearer(token))
            assert current.json()["metadata"] == {"lang": "ko"}
            (listed,) = client.get("/api/v1/sessions", headers=bearer(OPERATOR)).json()["sessions"]
            assert listed["id"] == current.json()["id"]
            rotated = client.post("/api/v1/sessions/current/rotate", headers=bearer(token)).json()["token"]
            assert old.validate_session(rotated)
            assert not old.validate_session(token)
            assert client.get("/api/v1/sessions/current", headers=bearer(token)).status_code == 401
            assert old.delete_session(rotated)
            assert client.get("/api/v1/sessions/current", headers=bearer(rotated)).status_code == 401
    finally:
        server.terminate()
        server.wait(30)


def answers(client: httpx2.Client) -> bool:
    """Whether the server listens and its store answers."""
    try:
        return bool(client.get("/readyz").status_code == 200)
    except httpx2.TransportError:
        return False


def test_the_manager_of_the_process_serves_a_legacy_file(tmp_path: Path, berlin: str) -> None:
    """`get_session_manager` takes the file that the environment names, whatever its form."""
    token = OldSessionManager(legacy_file(tmp_path / "legacy.db")).create_session("u1")
    done = subprocess.run(
        [COMMAND[0], "-c", MANAGER, token],
        env=environment(HOLDFAST_SQLITE_PATH=str(tmp_path / "legacy.db")),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "u1 1\n"


def test_checking_the_tables_leaves_a_legacy_file_alone(tmp_path: Path) -> None:
    """The commands for native tables refuse it, untouched, and say what there is to do."""
    path = legacy_file(tmp_path / "legacy.db")
    before = path.read_bytes()
    for command in ("upgrade", "check"):
        done = run("db", command, folder=tmp_path, HOLDFAST_SQLITE_PATH=str(path))
        assert done.returncode != 0
        assert "db import" in done.stderr
    assert path.read_bytes() == before
