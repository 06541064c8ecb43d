"""The security checklist as a page: which test holds which row, read from the tests' own docstrings.

`python -m tests.security.checklist` writes docs/reference/security-checklist.md; a test says when that is due.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "security-checklist.md"
_ROW: Final = re.compile(r"\bS-(\d\d)(?: to S-(\d\d))?")

ROWS: Final = {
    1: "Tokens have 256 random bits from the system's generator; all of the body is random.",
    2: "Only a digest of a token is stored, anywhere.",
    3: "The public id is another thing than the token; neither id nor digest opens anything.",
    4: "A token that nobody issued creates nothing and is never echoed.",
    5: "Malformed tokens are refused before any database is asked.",
    6: "A prefix and a checksum make leaked tokens findable and typos cheap.",
    7: "Unknown, expired and revoked look the same to the client; comparisons take constant time.",
    8: "A token of the wrong JSON type is a 4xx, never a 500.",
    9: "Rotating the key of a keyed digest fails closed.",
    10: "No token in any log, trace, metric, error, representation or output.",
    11: "Logs correlate by public id or correlation id.",
    12: "A token is shown once, by create or rotate.",
    13: "Rotation replaces the token; the old one is dead, but for a stated grace of the direct predecessor.",
    14: "Parallel rotations give one successor.",
    15: "A rotation that failed leaves exactly one working token.",
    16: "Use of a retired predecessor is noticed.",
    17: "Idle and absolute limits hold on the server; nothing passes the cap.",
    18: "Expiry does not depend on the sweep.",
    19: "A revoked session never comes back.",
    20: "Revoking a user's sessions covers all that were created before it.",
    21: "What is known of validity has one bound, ten seconds; the database decides every validate.",
    22: "Disabling a user ends sessions and sockets.",
    23: "The cap per user is atomic.",
    24: "Creating sessions is limited by rate; anonymous sessions are off by default.",
    25: "Every operation checks whose session it is.",
    26: "Changing metadata cannot change user, expiry or flags.",
    27: "A change of authentication level is seen by the next validate.",
    28: "Users list and end their own sessions.",
    29: "The default cookie has `__Host-`, Secure, HttpOnly, SameSite and no Domain; a development cookie says so.",
    30: "A session cookie that can be read in two ways is refused.",
    31: "Deleting a cookie repeats its attributes.",
    32: "What a cache may keep is never somebody's session or token.",
    33: "What changes something with a cookie must come from a page that may act.",
    34: "No state changes by GET.",
    35: "Log-out can clear what the browser keeps.",
    36: "A token in a place that is not enabled is ignored, never a fall-back.",
    37: "A handshake by cookie needs an origin on the exact list; the default denies.",
    38: "A socket's credential is checked before it is accepted.",
    39: "A token in a query opens no socket and reaches no log.",
    40: "A ticket lives 30 seconds, works once, and is bound to its session and origin.",
    41: "A subprotocol that holds a token is never echoed.",
    42: "There is no first-message mode; handshakes that wait are bounded.",
    43: "A socket closes at its session's expiry without traffic.",
    44: "A socket closes after an end anywhere, and nothing is delivered after the decision.",
    45: "A check of each message that says no, or fails, lets nothing pass.",
    46: "Messages keep a session alive and count; pings do not.",
    47: "Messages are limited in size and rate, queues are bounded, slow readers are cut off.",
    48: "Sockets are limited per session, user, address and process.",
    49: "Compression is off.",
    50: "Close reasons are short fixed words.",
    51: "Metadata is limited in bytes, depth and keys before the database sees it.",
    52: "Integers are limited to ±2^53; NaN, infinity and endless numbers are refused.",
    53: "NUL, lone surrogates and control characters are refused alike on both databases.",
    54: "User ids are limited in length and compared exactly.",
    55: "Duplicate keys in JSON are refused.",
    56: "Parameters are bound; names that become SQL match a strict pattern.",
    57: "Nothing that a client sends can forge a line of a log or move a terminal's cursor.",
    58: "The admin page escapes everything.",
    59: "Exports neutralise formulas.",
    60: "No pickle, marshal, eval or unsafe YAML.",
    61: "Forwarded addresses count only from listed proxies.",
    62: "Authorisation belongs to the route, never to the rebuilt address.",
    63: "Bodies are limited for every content type.",
    64: "Pages are limited and follow keys.",
    65: "Unknown fields, parameters and methods are refused.",
    66: "Administration is off without a credential; a public address without one refuses to start.",
    67: "Reading and revoking are separate operator roles, and audited.",
    68: "Logging in to the admin page is throttled.",
    69: "Metrics and health never name a user, a token or an address.",
    70: "Secrets come from the environment or files, and appear in no message.",
    71: "Errors have generic bodies with a correlation id.",
    72: "With the database away the answer is unavailable, never valid.",
    73: "Messages between servers are hints.",
    74: "The runtime database role cannot alter the schema.",
    75: "SQLite's files are owner-only whatever the umask; symbolic links are refused.",
    76: "TLS to PostgreSQL can be verified.",
    77: "Every change of a session gives one event.",
    78: "Bursts of invalid tokens can be counted and alerted on.",
    79: "Address and user agent are optional, and erased with the user.",
    80: "Each answer belongs to its asker, whatever is cancelled.",
    81: "Dependencies are pinned with hashes and audited.",
    82: "Backups hold digests only and are owner-only.",
}
"""What each row asks for."""

REQUIRED: Final = frozenset(
    (
        *range(1, 9),
        *range(10, 27),
        *range(28, 58),
        *range(60, 67),
        70,
        71,
        72,
        73,
        74,
        75,
        76,
    )
)
"""The rows that this version must hold."""


def covered() -> dict[int, list[str]]:
    """For each row the tests whose docstring names it, as `path::name`, in order."""
    found: dict[int, set[str]] = defaultdict(set)
    suites = sorted((ROOT / "src" / "holdfast" / "testing").glob("suite*.py"))
    for path in (*sorted((ROOT / "tests").rglob("test_*.py")), *suites):
        for name, docstring in _tests(path):
            for first, last in _ROW.findall(docstring):
                for row in range(int(first), int(last or first) + 1):
                    found[row].add(f"{path.relative_to(ROOT)}::{name}")
    return {row: sorted(names) for row, names in sorted(found.items())}


def page() -> str:
    """The whole page."""
    tests = covered()
    lines = [
        "# Security checklist",
        "",
        "Which test holds which row. Made from the docstrings by `python -m tests.security.checklist`; a test in",
        "tests/security says when that is due. A row without a test is open, however it may look in the code.",
        "",
        "| row | what it asks for | held by |",
        "|---|---|---|",
    ]
    for row, sentence in ROWS.items():
        names = tests.get(row, [])
        shown = "<br>".join(f"`{_short(name)}`" for name in names) if names else "**open**"
        lines.append(f"| S-{row:02} | {sentence} | {shown} |")
    return "\n".join(lines) + "\n"


def _short(name: str) -> str:
    return name.removeprefix("tests/").removeprefix("src/holdfast/")


def _tests(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


if __name__ == "__main__":
    PAGE.write_text(page())
