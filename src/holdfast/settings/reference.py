"""The page `docs/reference/settings.md`, made from the table: `python -m holdfast.settings.reference`."""

from dataclasses import fields
from pathlib import Path
from typing import Final

from holdfast.settings.table import Settings

PAGE: Final = Path("docs/reference/settings.md")

_INTRODUCTION: Final = """\
# Settings

Environment variables, read once at start. The server and the command line also read a file `.env` in the
current directory; the environment wins. A secret may come from a file instead, named by the variable with
`_FILE` at its end (`DATABASE_URL_FILE` and `HOLDFAST_DATABASE_URL_FILE` both work). An empty variable counts
as not set, and an unknown `HOLDFAST_…` name is refused.

This page is made by `python -m holdfast.settings.reference`.

| name | value | default | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The whole page, in the order of the table."""
    rows = []
    for column in fields(Settings):
        name, kind, sentence, secret = column.metadata["variable"]
        mark = " Secret." if secret else ""
        rows.append(f"| `{name}` | {kind.allowed} | {_default(column.default)} | {sentence}{mark} |\n")
    return _INTRODUCTION + "".join(rows)


def _default(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
