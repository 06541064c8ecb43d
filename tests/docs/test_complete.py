"""Nothing public is missing from the reference, and nothing on the pages has ceased to be."""

import dataclasses
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint
from typer.main import get_command

import holdfast
from holdfast import Session, SessionManager, StoreOptions
from holdfast.cli.commands import app as command_line
from holdfast.server.app import create_app
from holdfast.server.docs import openapi
from holdfast.sessions import errors
from holdfast.settings import Settings
from holdfast.sql.tables import VERSION_TABLE, tables
from holdfast.web import responses
from tests.docs.console import Shell, development_server
from tests.docs.pages import PAGES, ROOT, blocks, page

EVERYTHING_ON = Settings(allow_anonymous=True, allow_extend=True, allow_metadata=True)
SETTINGS = {field.metadata["variable"].name for field in dataclasses.fields(Settings)}


def _text(name: str) -> str:
    return page(name).read_text(encoding="utf-8")


def _public(kind: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_")]


def test_every_public_name_is_described() -> None:
    """The names of the package, the manager's methods with their arguments, and the fields of what they answer."""
    text = _text("reference/python.md")
    missing = [name for name in holdfast.__all__ if f"`{name}`" not in text and f"`{name}(" not in text]
    for kind in (Session, StoreOptions):
        names = [field.name for field in dataclasses.fields(kind)]
        missing += [f"{kind.__name__}.{name}" for name in names if f"`{name}`" not in text]
    assert missing == []


@pytest.mark.parametrize("name", [*_public(SessionManager), "__init__"])
def test_every_method_is_described(name: str) -> None:
    """With its arguments in their order, and their defaults where the page shows a signature."""
    text = _text("reference/python.md")
    method = getattr(SessionManager, name)
    arguments = [each for each in inspect.signature(method).parameters if each != "self"] if callable(method) else []
    if name == "__init__":
        assert all(f"| `{argument}` |" in text for argument in arguments)
        return
    if not callable(method) or name in ("policy", "open_store", "from_environment"):
        assert f"`{name}`" in text
        return
    shown = re.search(rf"`{name}\((?P<arguments>[^)`]*)\)`", text)
    assert shown is not None
    assert [each.partition("=")[0] for each in filter(None, shown["arguments"].split(", "))] == arguments


def test_every_error_is_described() -> None:
    """The tree and the table name each of them once and no other."""
    kinds = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    text = _text("reference/errors.md")
    assert {row for row in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) if row[0].isupper()} == kinds
    assert set(re.findall(r"[├└]── (\w+)", text)) == kinds - {"HoldfastError"}


def test_every_route_is_described() -> None:
    """The tables hold exactly the routes of the OpenAPI document, with everything switched on."""
    described = openapi(create_app(EVERYTHING_ON))
    routes = {f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item}
    shown = set(re.findall(r"^\| `([A-Z]+ /api/[^`]+)` \|", _text("reference/http.md"), re.MULTILINE))
    assert shown == routes


def test_every_error_of_the_interface_is_described() -> None:
    """Each code that an answer can have, with its status."""
    source = Path(holdfast.__file__).parent
    text = _text("reference/http.md")
    shown = {
        (status, code)
        for status, codes in re.findall(r"^\| (\d{3}) \| ([^|]+) \|", text, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }
    raised = {
        match
        for folder in ("api", "sockets", "web")
        for file in (source / folder).glob("*.py")
        for match in re.findall(r'Refusal\(\s*(\d{3}), "(\w+)"', file.read_text(encoding="utf-8"))
    }
    mapped = {(str(status), code) for _, status, code, _ in responses._TABLE}
    mapped |= {(str(status), code) for status, (code, _) in responses._HTTP_CODES.items()}
    assert shown == raised | mapped | {("422", "invalid"), ("500", "internal")}


def test_every_column_is_described() -> None:
    """Each table has its columns in order, and each index and named constraint is there."""
    text = _text("reference/schema.md")
    for table in tables(None).metadata.sorted_tables:
        section = text.partition(f"## {table.name}\n")[2].partition("\n## ")[0]
        shown = re.findall(r"^\| `(\w+)` \| [a-z]", section, re.MULTILINE)
        columns = [column.name for column in table.columns]
        assert [name for name in shown if name in columns] == columns, table.name
        names = [str(index.name) for index in table.indexes]
        names += [str(check.name) for check in table.constraints if isinstance(check, CheckConstraint)]
        assert [name for name in names if f"`{name}`" not in section] == [], table.name
    assert f"## {VERSION_TABLE}" in text


def test_every_revision_is_described() -> None:
    """The version table's rows are the migrations, in order."""
    files = sorted((ROOT / "src" / "holdfast" / "sql" / "migrations" / "versions").glob("[0-9]*.py"))
    shown = re.findall(r"^\| `(\d{4})` \|", _text("reference/schema.md"), re.MULTILINE)
    assert shown == [file.name[:4] for file in files]


def test_every_setting_is_described() -> None:
    """The generated page has them all."""
    shown = set(re.findall(r"^\| `(\w+)` \|", _text("reference/settings.md"), re.MULTILINE))
    assert shown == SETTINGS


def _commands(command: Any, name: str) -> dict[str, set[str]]:
    below = getattr(command, "commands", None)
    if below is None:
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        return {name: options - {"--help"}}
    found: dict[str, set[str]] = {}
    for each, inner in below.items():
        found |= _commands(inner, f"{name} {each}")
    return found


def test_every_command_is_described() -> None:
    """One section for each command, with its options and no others."""
    sections = _text("reference/cli.md").split("\n## ")[1:]
    shown = {}
    for section in sections:
        title, _, text = section.partition("\n")
        if title.startswith("holdfast"):
            rows = " ".join(re.findall(r"^\| (`--[^|]+) \|", text, re.MULTILINE))
            shown[title] = set(re.findall(r"--[\w-]+", rows))
    assert shown == _commands(get_command(command_line), "holdfast")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_settings_on_a_page_exist(path: Path) -> None:
    """A variable that is named anywhere is one that there is."""
    known = SETTINGS | {f"{name}_FILE" for name in SETTINGS} | {"HOLDFAST_DATABASE_URL_FILE"}
    # The tests' own: a trace to replay as well.
    known |= {"HOLDFAST_TRACE"}
    named = set(re.findall(r"\bHOLDFAST_(?!TEST_)[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")))
    assert named - known == set()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the transcripts need curl")
def test_the_examples_of_the_interface(tmp_path: Path) -> None:
    """Each group's example answers what the page shows."""
    with development_server(tmp_path) as (base, credentials):
        shell = Shell(tmp_path, base, credentials)
        for block in blocks(page("reference/http.md")):
            if block.language == "console" and "run" in block.words:
                shell.check(block.text)
