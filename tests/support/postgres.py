"""A PostgreSQL of our own: from the wheel, on a free port, with faults on demand."""

from __future__ import annotations

import functools
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support import admin, binaries, processes
from tests.support.polling import until
from tests.support.ports import LOOPBACK
from tests.support.reaper import reaper
from tests.support.server import Server

_SUPERUSER = "holdfast"

_ACCESS = f"""\
host all         all {LOOPBACK}/32 scram-sha-256
host replication all {LOOPBACK}/32 scram-sha-256
"""


@functools.cache
def _password() -> str:
    """The superuser's password: one per test process, so that prepared directories share it."""
    return secrets.token_hex(16)


def _initialise(version: int, data: Path) -> None:
    """`initdb`, then our access rules and settings file; about 0.6 s."""
    password = data.with_name(f"{data.name}.password")
    password.write_text(_password())
    password.chmod(0o600)
    binaries.hand_over(password)
    try:
        binaries.run(
            [
                *(binaries.programs(version) / "initdb", "-D", data, "-U", _SUPERUSER),
                *("--pwfile", password, "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            ]
        )
    finally:
        password.unlink()
    (data / "pg_hba.conf").write_text(_ACCESS)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("include 'holdfast.conf'\n")


@functools.cache
def _prepared(version: int) -> Path:
    """A data directory of this version to copy from: ten times faster than `initdb` each time."""
    folder = binaries.scratch() / f"prepared-{version}"
    folder.mkdir(mode=0o711)
    binaries.hand_over(folder)
    _initialise(version, folder / "data")
    return folder / "data"


def _copy(source: Path, data: Path) -> None:
    shutil.copytree(source, data)
    for each in (data, *data.rglob("*")):
        binaries.hand_over(each)
    data.chmod(0o700)


def _place(folder: Path | None) -> Path:
    """Make the folder of a server: `folder` if its user can get there, else a link to one it can.

    pytest's `tmp_path` is closed to everybody but its owner, and pytest closes it again should
    somebody open it; so the data of a server started by root cannot live in there.
    """
    user = binaries.account()
    real = folder
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
    if folder is None or (user is not None and not user.can_enter(folder.parent.resolve())):
        real = binaries.scratch() / f"server-{secrets.token_hex(6)}"
        if folder is not None:
            folder.symlink_to(real)
    assert real is not None
    # An existing empty folder is welcome: a small file system mounted there for "disk full".
    real.mkdir(mode=0o711, exist_ok=True)
    binaries.hand_over(real)
    return real.resolve()


class PostgresCluster(Server, admin.Databases):
    """A real server with a superuser; see `Server` and `Databases` for most of what it can do.

    Methods block the calling thread: in a test with a `FaultProxy` or with load in the same event
    loop, call the longer ones (`start`, `standby`, ...) through `asyncio.to_thread`.
    """

    def __init__(self, version: int, folder: Path, settings: Mapping[str, str], *, durable: bool) -> None:
        Server.__init__(self, version, folder, settings, durable=durable)
        place = f"{LOOPBACK}:{self.port}/postgres"
        admin.Databases.__init__(self, f"postgresql://{_SUPERUSER}:{_password()}@{place}")

    @classmethod
    def create(
        cls,
        version: int,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        durable: bool = False,
        own_identity: bool = False,
    ) -> Self:
        """Make a server, not started.

        `directory` must not exist yet, or be empty; without it a place is found.  `settings` are
        lines of postgresql.conf.  `durable` forces writes to the disk.  `own_identity` gives the
        server a system identifier of its own (0.6 s more): without, all servers of a test process
        have the same, being copies of one prepared directory.
        """
        # In this order: at exit the watchdog ends the servers before their folders are deleted.
        scratch = binaries.scratch()
        reaper().sweep(scratch)
        server = cls(version, _place(directory), settings or {}, durable=durable)
        if own_identity:
            _initialise(version, server.data)
        else:
            _copy(_prepared(version), server.data)
        return server

    def remove(self) -> None:
        """Kill the server if it runs and delete its folder; a second call does nothing."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        reaper().forget(self.data)

    def configure(self, settings: Mapping[str, str | None]) -> None:
        """Change settings of the running server and wait until new sessions have them.

        `None` takes a setting back to its default.  Present sessions follow within moments, when
        they are next idle.  A setting that needs a restart takes effect at the next `start`.
        """
        for name, value in settings.items():
            if value is None:
                self.settings.pop(name, None)
            else:
                self.settings[name] = value
        before = self.execute("SELECT pg_conf_load_time()")
        self.reload()
        until(
            lambda: self.execute("SELECT pg_conf_load_time()") != before,
            what=f"{self.name} has read its settings",
        )

    def force_read_only(self, enabled: bool = True) -> None:
        """Refuse writes (SQLSTATE 25006) while staying up: a demoted primary seen by its clients.

        A client can still ask for a writable transaction by name; a real standby refuses that.
        """
        self.configure({"default_transaction_read_only": "on" if enabled else None})

    def standby(self, directory: Path | None = None) -> Self:
        """A second server, started, that streams from this one (asynchronously)."""
        other = type(self)(self.version, _place(directory), self.settings, durable=self.durable)
        binaries.run(
            [
                *(binaries.programs(self.version) / "pg_basebackup", "-D", other.data),
                *("-h", LOOPBACK, "-p", str(self.port), "-U", _SUPERUSER),
                *("--checkpoint=fast", "--wal-method=stream", "--no-sync"),
            ],
            extra={"PGPASSWORD": _password()},
        )
        other._follow(self)
        other.start()
        return other

    def _follow(self, primary: Self) -> None:
        """Become, at the next start, a standby of `primary`."""
        self.settings["primary_conninfo"] = (
            f"host={LOOPBACK} port={primary.port} user={_SUPERUSER} password={_password()} application_name={self.name}"
        )
        (self.data / "standby.signal").touch()
        binaries.hand_over(self.data / "standby.signal")

    def detach(self) -> None:
        """Cut this standby off from its primary: what commits there from now on is not here."""
        self.configure({"primary_conninfo": None})
        until(
            lambda: not self.execute("SELECT 1 FROM pg_stat_wal_receiver"),
            what=f"{self.name} no longer receives",
        )

    def wait_for(self, primary: Self) -> None:
        """Return when this standby has replayed all that `primary` has written until now."""
        [[position]] = primary.execute("SELECT pg_current_wal_flush_lsn()::text")
        until(
            lambda: self.execute(f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)") == [[True]],
            what=f"{self.name} has replayed {position}",
        )

    def promote(self) -> None:
        """Make this standby a primary and wait until it takes writes."""
        [[done]] = self.execute("SELECT pg_promote(true, 60)")
        if not done:
            raise TimeoutError(f"promotion did not finish:\n{self.last_words()}")
        # Promotion resumes at the next start otherwise.
        self.settings.pop("primary_conninfo", None)
        self.write_settings()

    def restart_as_standby_of(self, primary: Self) -> None:
        """Stop this server if it runs and start it again, at its old address, behind `primary`.

        What it wrote that `primary` never saw is thrown away (`pg_rewind`).
        """
        self.stop()
        processes.forget(self.data)
        # The rewind compares what is on disk.
        primary.execute("CHECKPOINT")
        login = f"host={LOOPBACK} port={primary.port} user={_SUPERUSER} dbname=postgres"
        binaries.run(
            [
                *(binaries.programs(self.version) / "pg_rewind", "--target-pgdata", self.data),
                *("--source-server", login, "--no-sync"),
            ],
            extra={"PGPASSWORD": _password()},
        )
        self._follow(primary)
        self.start()
