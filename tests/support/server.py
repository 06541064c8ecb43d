"""One PostgreSQL server process tree: started, stopped, frozen and killed on demand."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.support import binaries, processes
from tests.support.polling import until
from tests.support.ports import LOOPBACK, free_port
from tests.support.reaper import reaper

#: Settings every test server has; what a caller gives wins.
_DEFAULTS = {
    "listen_addresses": LOOPBACK,
    # TCP alone: a socket file would need a short path that its users can reach.
    "unix_socket_directories": "",
    # 64 MiB instead of 128: several servers at once, each with little data.
    "shared_buffers": "64MB",
    # Parallel workers' memory in the data directory, not in /dev/shm, where SIGKILL leaves it.
    "dynamic_shared_memory_type": "mmap",
    # A standby and a rewind are possible without a restart.
    "wal_level": "replica",
    "max_wal_senders": "8",
    "wal_keep_size": "128MB",
    "wal_log_hints": "on",
    "hot_standby": "on",
    "log_line_prefix": "%m [%p] %a ",
}

#: Writes reach the kernel but are not forced to the disk.  Tests kill processes, never the
#: machine, and what the kernel has survives the death of every process.
_NOT_DURABLE = {"fsync": "off"}

#: How the server is told to stop: "fast" ends the sessions in order, "immediate" is its own
#: emergency exit, after which the next start recovers from the log.
StopMode = Literal["fast", "immediate"]

_STOP_SIGNAL = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server:
    """The processes and the settings of one data directory; no SQL here.

    `folder` holds `data` (the data directory) and `server.log`.  All methods block.
    """

    def __init__(self, version: int, folder: Path, settings: Mapping[str, str], *, durable: bool) -> None:
        self.version = version
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        #: Unique on this machine; the server shows it in its process titles and, as a standby,
        #: gives it to the primary as its application name.
        self.name = f"holdfast_{secrets.token_hex(6)}"
        self.port = free_port()
        self.durable = durable
        self.settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the postmaster lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id; `RuntimeError` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL at port {self.port} does not run")
        return self._process.pid

    def start(self, *, deadline: float = 60.0) -> None:
        """Start the server and return when it accepts connections.

        After `kill` that includes recovery.  `RuntimeError` with the end of the log when the
        server gives up, `TimeoutError` after `deadline` seconds.
        """
        if self.running:
            raise RuntimeError(f"PostgreSQL at port {self.port} runs already")
        self.write_settings()
        reaper().watch(self.data)
        user = binaries.account()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries.programs(self.version) / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=binaries.environment(),
                # Ctrl-C in the terminal is for pytest, which stops the servers in order.
                start_new_session=True,
                user=None if user is None else user.uid,
                group=None if user is None else user.gid,
                extra_groups=None if user is None else [],
            )
        until(self._ready_or_gone, what=f"{self.name} accepts connections", deadline=deadline)
        if not self.running:
            raise RuntimeError(f"PostgreSQL did not start:\n{self.last_words()}")

    def _ready_or_gone(self) -> bool:
        if not self.running:
            return True
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # The eighth line is the state; a file of an earlier life has an earlier process id.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def last_words(self, lines: int = 20) -> str:
        """The end of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, mode: StopMode = "fast", *, deadline: float = 60.0) -> None:
        """Ask the server to stop and wait until it has; a stopped one is no error."""
        if self._process is None:
            return
        if self.running:
            self.thaw()
            self._process.send_signal(_STOP_SIGNAL[mode])
            self._process.wait(timeout=deadline)
        self._process = None

    def kill(self) -> None:
        """SIGKILL every process of the server at one instant; `start` works after it."""
        if self._process is None:
            return
        if self.running:
            processes.kill(self._process.pid)
        self._process.wait()
        self._process = None
        processes.end(processes.orphans(self.data))
        processes.forget(self.data)

    def freeze(self) -> None:
        """SIGSTOP every process: connections stay open, new ones connect, nothing answers."""
        processes.freeze(self.pid)

    def thaw(self) -> None:
        """Let frozen processes run on, all of them, also those frozen one by one."""
        processes.thaw(self.pid)

    def freeze_backend(self, pid: int) -> None:
        """SIGSTOP one backend (`pg_backend_pid()`), which keeps its locks."""
        self._own(pid)
        processes.send(pid, signal.SIGSTOP)
        until(lambda: processes.stopped(pid), what=f"backend {pid} is frozen")

    def thaw_backend(self, pid: int) -> None:
        """Let one frozen backend run on."""
        self._own(pid)
        processes.send(pid, signal.SIGCONT)

    def kill_backend(self, pid: int) -> None:
        """SIGKILL one backend and wait until the server has ended all the others because of it.

        PostgreSQL cannot know what a crashed backend did to shared memory: it ends every session
        and recovers.  `wait_until_ready` waits for the end of that.
        """
        self._own(pid)
        generation = [each.pid for each in processes.children(self.pid)]
        processes.send(pid, signal.SIGKILL)
        until(
            lambda: not any(processes.alive(each) for each in generation),
            what="the server has ended all sessions after a crash",
        )

    def _own(self, pid: int) -> None:
        # Signals go to processes of this server only, whatever number a test passes.
        if pid not in {each.pid for each in processes.children(self.pid)}:
            raise ValueError(f"process {pid} is no backend of the server at port {self.port}")

    def wait_until_ready(self, *, deadline: float = 60.0) -> None:
        """Return when the server says that it accepts connections."""
        program = str(binaries.programs(self.version) / "pg_isready")
        command = [program, "-q", "-t", "1", "-h", LOOPBACK, "-p", str(self.port)]

        def ready() -> bool:
            done = subprocess.run(command, check=False, env=binaries.environment())
            return done.returncode == 0

        until(ready, what=f"{self.name} accepts connections again", deadline=deadline)

    def write_settings(self) -> None:
        """Write the settings file; the server reads it at its next start or `reload`."""
        own = {"port": str(self.port), "cluster_name": self.name}
        softened = {} if self.durable else _NOT_DURABLE
        merged = {**_DEFAULTS, **softened, **own, **self.settings}
        quoted = {name: value.replace("'", "''") for name, value in merged.items()}
        text = "".join(f"{name} = '{value}'\n" for name, value in quoted.items())
        (self.data / "holdfast.conf").write_text(text)
        binaries.hand_over(self.data / "holdfast.conf")

    def reload(self) -> None:
        """Make the server read its settings again; it does so soon, not at once."""
        self.write_settings()
        processes.send(self.pid, signal.SIGHUP)
