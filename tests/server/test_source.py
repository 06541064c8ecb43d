"""What the source must not contain."""

import ast
from pathlib import Path

import pytest

import holdfast

SOURCE = Path(holdfast.__file__).parent
FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def test_nothing_turns_data_into_code(subtests: pytest.Subtests) -> None:
    """S-60: no pickle, marshal, eval, exec or YAML anywhere in the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        with subtests.test(str(path.relative_to(SOURCE))):
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    assert not {alias.name.partition(".")[0] for alias in node.names} & FORBIDDEN_MODULES
                elif isinstance(node, ast.ImportFrom):
                    assert (node.module or "").partition(".")[0] not in FORBIDDEN_MODULES
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in FORBIDDEN_CALLS, f"line {node.lineno}"
