"""The page `docs/reference/cli.md`, made from the commands themselves: `python -m holdfast.cli.reference`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

from holdfast.cli.commands import app

PAGE: Final = Path("docs/reference/cli.md")

_INTRODUCTION: Final = """\
# Commands

Settings come from the [environment](settings.md), over a file `.env` in the current folder; options win over both.
Data goes to standard output, messages to standard error; with `--json` one JSON value is all that standard output
has, times in UTC. `--sqlite` and `--postgres` name a database instead of the one that the environment names; an
address given as an option is visible in the list of processes, so prefer `DATABASE_URL` where it holds a password.
A token is never an argument, and only `holdfast sessions create` prints one. What destroys something asks first;
without a terminal it is a usage error unless `--yes` is there.

`holdfast --version` says which version this is, `python -m holdfast` is the same program. For completion in your
shell run `holdfast --install-completion` once, or look at what it would install with `holdfast --show-completion`.

| exit code | means |
|---|---|
| 0 | ok |
| 1 | failure |
| 2 | usage |
| 3 | not found, or a difference found |
| 4 | refused, or unavailable |

This page is made by `python -m holdfast.cli.reference`.
"""


def page() -> str:
    """The whole page: one section for each command, in the order of the command line's own help."""
    return _INTRODUCTION + "".join(_sections(get_command(app), "holdfast"))


def _sections(command: Any, name: str) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield _section(command, name)
        return
    for each, inner in below.items():
        yield from _sections(inner, f"{name} {each}")


def _section(command: Any, name: str) -> str:
    said, _, example = str(command.help).partition("Example:")
    lines = [f"\n## {name}\n", " ".join(said.split()) + "\n", f"```\n{_example(example)}\n```\n"]
    rows = [row for parameter in command.params if (row := _row(parameter)) is not None]
    if rows:
        lines.append("| option | default | meaning |\n|---|---|---|\n" + "".join(rows))
    return "\n".join(lines)


def _example(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _row(parameter: Any) -> str | None:
    options = [option for option in (*parameter.opts, *parameter.secondary_opts) if option.startswith("-")]
    if options == ["--help"]:
        return None
    shown = ", ".join(f"`{option}`" for option in options) or f"`{parameter.name.rstrip('_').upper()}`"
    value = parameter.default
    default = "" if value in (None, False, (), []) or callable(value) else f"`{value}`"
    return f"| {shown} | {default} | {_safe(parameter.help or '')} |\n"


def _safe(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
