"""Transcripts run again: a server for development, a shell, and what must agree."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.cli.command import COMMAND, environment
from tests.support.polling import until

_SHOWN_BASE: Final = "http://127.0.0.1:8000"
_TOKEN: Final = re.compile(r"hfs_[0-9A-Za-z]+")
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# What is another one at every run, and the word it becomes on both sides.
_CHANGING: Final = (
    (re.compile(r"hf[st]_[0-9A-Za-z-]+"), "SECRET"),
    (_ID, "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "TIME"),
    (re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"), "DATE"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "CORRELATION"),
)


def same(shown: str, printed: str) -> bool:
    """Whether two texts agree but for what is another one at every run."""
    return _fixed(shown) == _fixed(printed)


def _fixed(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    for pattern, word in _CHANGING:
        lines = pattern.sub(word, lines)
    return lines


class Shell:
    """Runs the commands of a transcript one after the other, and remembers what a reader would copy."""

    def __init__(self, folder: Path, base: str, variables: Mapping[str, str]) -> None:
        """`base` takes the place of the address on the page, `variables` are set already."""
        self._folder = folder
        self._base = base
        self._variables = dict(variables)
        self._token = ""
        self._id = ""

    def check(self, transcript: str) -> None:
        """Run every command; each must print what the transcript shows."""
        for command, shown in commands(transcript):
            if (assigned := re.fullmatch(r"([A-Z]+)=(\S+)", command)) is not None:
                self._assign(assigned[1], assigned[2])
                continue
            ran = subprocess.run(
                ["bash", "-c", command.replace(_SHOWN_BASE, self._base)],
                cwd=self._folder,
                env=environment(**self._variables),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            printed = ran.stdout.replace(self._base, _SHOWN_BASE).replace("\r", "")
            assert ran.returncode == 0, f"$ {command}\n{ran.stdout}{ran.stderr}"
            assert same(shown, printed), f"$ {command}\n{printed}"
            self._token = (_TOKEN.findall(printed) or [self._token])[-1]
            self._id = (_ID.findall(printed) or [self._id])[-1]

    def _assign(self, name: str, value: str) -> None:
        """A variable: a token or an id is the one last seen, as a reader copies it; anything else is itself."""
        if value.startswith("hfs_"):
            value = self._token
        elif _ID.fullmatch(value):
            value = self._id
        if name not in ("APP", "ADMIN"):
            self._variables[name] = value


def commands(transcript: str) -> Iterator[tuple[str, str]]:
    """The commands of a transcript, each with what it prints."""
    command, shown = "", ""
    for line in transcript.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], ""
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            shown += line + "\n"
    if command:
        yield command, shown


@contextmanager
def development_server(folder: Path, **variables: str) -> Iterator[tuple[str, dict[str, str]]]:
    """`holdfast serve --dev` on a free port: its address, and the credentials it printed."""
    errors = folder / "server.log"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--dev", "--port", "0"],
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield (
            _address(process, errors),
            {
                "APP": _printed(errors, "HOLDFAST_APP_TOKEN"),
                "ADMIN": _printed(errors, "HOLDFAST_ADMIN_TOKEN"),
            },
        )
    finally:
        process.terminate()
        process.wait(30)


def _address(process: "subprocess.Popen[bytes]", errors: Path) -> str:
    def said() -> bool:
        text = errors.read_text()
        return process.poll() is not None or ("listening on " in text and "the store answers" in text)

    until(said, what="the server listens, or has ended")
    found = re.search(r"listening on (http://\S+)", errors.read_text())
    if found is None or process.poll() is not None:
        raise AssertionError(errors.read_text())
    return found[1]


def _printed(errors: Path, name: str) -> str:
    found = re.search(rf"{name}=(\S+)", errors.read_text())
    assert found is not None
    return found[1]


def run_file(folder: Path, *arguments: str) -> str:
    """What a Python program prints."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment(), "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
