"""What the repository itself has to keep: pins without addresses, ignores with reasons.

The import rules are not here: `make imports` holds them.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.*"))
LOCKED = [path for path in REQUIREMENTS if path.suffix == ".txt"]

# In halves, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(halves)
    for halves in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("anaconda", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("jsdelivr", "net"),
        ("unpkg", "com"),
        ("crates", "io"),
        ("golang", "org"),
        ("deb", "debian.org"),
        ("security", "debian.org"),
    ]
]


def files_in_git() -> list[Path]:
    """Every file under version control; skips where there is no repository (an unpacked archive)."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the repository")
    listing = subprocess.run(
        [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    )
    paths = [ROOT / name.decode() for name in listing.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(requirements: list[str]) -> set[str]:
    """The distributions that a list of requirements names."""
    return {normal(found[0]) for line in requirements if (found := re.match(r"[A-Za-z0-9._-]+", line))}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirement_files_hold_no_address(path: Path) -> None:
    """Where packages come from is up to the machine; a list that says so breaks at the next mirror."""
    addressed = re.compile(
        r"://|\bfile:/| @ |"
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host|--no-index|-e|--editable)\b"
    )
    held = [line for line in path.read_text().splitlines() if addressed.search(line)]
    assert held == []


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_every_pin_is_exact_and_hashed(path: Path) -> None:
    """A pin without a hash is refused by pip only once another one has a hash; say it here, by name."""
    joined = path.read_text().replace("\\\n", " ")
    pins = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert pins
    exact = re.compile(r"[A-Za-z0-9._-]+==\S+( ;.*)? +--hash=sha256:")
    loose = [pin.split()[0] for pin in pins if not exact.match(pin)]
    assert loose == []


def test_every_list_is_compiled() -> None:
    """`make lock` was run after the last list was added."""
    assert {path.stem for path in REQUIREMENTS if path.suffix == ".in"} == {path.stem for path in LOCKED}


def test_the_runtime_list_names_what_the_extras_name() -> None:
    """pyproject.toml states the ranges, runtime.in what is pinned of them: the names must not drift apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = names_in(project["dependencies"])
    for extra, requirements in extras.items():
        if extra not in ("testing", "demo"):  # test.in pins these
            wanted |= names_in(requirements)
    listed = (ROOT / "requirements" / "runtime.in").read_text().splitlines()
    assert names_in([line for line in listed if not line.startswith(("#", "-"))]) == wanted - {"holdfast"}


def test_no_file_names_a_package_registry() -> None:
    """Neither code nor documents nor pages fetch anything from a registry or a CDN."""
    named = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)).encode(), re.IGNORECASE)
    holders = [str(path.relative_to(ROOT)) for path in files_in_git() if named.search(path.read_bytes())]
    assert holders == []


def test_every_ruff_ignore_says_why() -> None:
    """One rule per line, with its reason beside it: an ignore without one is never taken back."""
    section = ""
    within = False
    unexplained = []
    for number, line in enumerate((ROOT / "pyproject.toml").read_text().splitlines(), start=1):
        if line.startswith("["):
            section, within = line, False
        if not section.startswith("[tool.ruff"):
            continue
        opens = line.startswith(("ignore = [", "extend-ignore = [")) or (
            "per-file-ignores" in section and re.match(r'"[^"]+" = \[', line)
        )
        if opens:
            assert line.rstrip().endswith("["), f"pyproject.toml:{number}: one rule per line, please"
            within = True
        elif line.startswith("]"):
            within = False
        elif within and not re.match(r'\s+"[A-Z]+\d*",\s+# \S', line):
            unexplained.append(f"pyproject.toml:{number}: {line.strip()}")
    assert unexplained == []


def test_every_ignore_in_the_code_says_why() -> None:
    """`# noqa: RULE - reason` or `# type: ignore[code]  # reason`."""
    silencer = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b[^#]*?(?P<reason>\s-\s\S|#\s*\S|$)")
    unexplained = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files_in_git()
        if path.suffix == ".py" and path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (found := silencer.search(line)) and not found["reason"]
    ]
    assert unexplained == []
