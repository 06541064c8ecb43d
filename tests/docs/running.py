"""Runs the Python blocks of a page as a reader would: one after the other, in one place, sharing their names."""

import ast
import inspect
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import FunctionType
from typing import Any

from tests.docs.pages import blocks


async def run_page(path: Path, change: Callable[[str], str] = str, **names: Any) -> dict[str, Any]:
    """Execute the blocks marked `run` in order; what one prints must be the `output` block behind it.

    `change` is applied to each text first: it puts the test's own database in place of the page's.
    Gives the names that the page has made.
    """
    namespace: dict[str, Any] = {"__name__": "__page__", **names}
    printed = io.StringIO()
    ran = 0
    for block in blocks(path):
        if block.language == "text" and "output" in block.words:
            assert printed.getvalue() == block.text, f"{path.name}:{block.line}"
        if block.language != "python" or "run" not in block.words:
            continue
        # The line numbers of the page, so that a failure names the place.
        text = "\n" * block.line + change(block.text)
        code = compile(text, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        printed = io.StringIO()
        with redirect_stdout(printed):
            outcome = FunctionType(code, namespace)()
            if inspect.iscoroutine(outcome):
                await outcome
        ran += 1
    assert ran, f"{path.name} has nothing to run"
    return namespace
