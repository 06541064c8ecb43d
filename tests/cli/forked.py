"""The command line without its start: a program that has imported everything, and forks a child for each command.

A child is what `holdfast` is after its imports: a process with its own arguments, environment, folder, streams and
exit code. Run as a program it reads a line of JSON for each child and answers with how it ended.
"""

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

_IMPORTED = (
    "aiosqlite",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "holdfast.cli.commands",
    "holdfast.backups.prune",
    "holdfast.backups.restore",
    "holdfast.doctor.examine",
    "holdfast.imports.whole",
    "holdfast.legacy.store",
    "holdfast.move.planning",
    "holdfast.server.run",
    "holdfast.sql.postgresql",
    "holdfast.sql.sqlite",
)


class Forker:
    """The program, seen from the tests. Started when it is first needed; ends when its input does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], **more: Any) -> Any:
        """Run `holdfast` with these arguments; `returncode`, `stdout` and `stderr`.

        No file grows longer than `limit` bytes; with `user` it is that user's, by number. It kills itself when it first
        tells of a `step`.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forked"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            atexit.register(self._process.communicate)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": arguments, "folder": str(folder), "environment": environment, **more}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return subprocess.CompletedProcess(list(arguments), **json.loads(self._process.stdout.readline()))


def _child(order: dict[str, Any], files: list[int]) -> NoReturn:
    code = 1
    try:
        for descriptor, target in zip((os.open(os.devnull, os.O_RDONLY), *files), (0, 1, 2), strict=True):
            os.dup2(descriptor, target)
        sys.stdout, sys.stderr = (os.fdopen(target, "w", encoding="utf-8", closefd=False) for target in (1, 2))
        if order.get("limit") is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
        os.chdir(order["folder"])
        if order.get("user") is not None:
            os.setgroups([])
            os.setgid(order["user"])
            os.setuid(order["user"])
        os.environ.clear()
        os.environ.update(order["environment"])
        time.tzset()
        if order.get("step") is not None:
            _die_at(order["step"])
        sys.argv = ["holdfast", *order["arguments"]]
        from holdfast.cli.main import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_at(step: str) -> None:
    from holdfast.cli.progress import Progress

    def tell(_: Progress, told: str, __: int) -> None:
        if told == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.__call__ = tell  # type: ignore[method-assign, assignment]  # in this child only


def _serve() -> None:
    for name in _IMPORTED:
        import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _child(order, [out.fileno(), err.fileno()])
            status = os.waitpid(child, 0)[1]
            out.seek(0)
            err.seek(0)
            answer = {
                "returncode": os.waitstatus_to_exitcode(status),
                "stdout": out.read().decode(),
                "stderr": err.read().decode(),
            }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
