"""One legacy row of every odd kind, and what becomes of it: the table of `docs/reference/legacy-rows.md`.

`python -m tests.legacy.row_cases` writes the page's table anew.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from holdfast.legacy.rows import LegacyRow, Quarantined, Readable, read_row

PAGE: Final = Path(__file__).parents[2] / "docs/reference/legacy-rows.md"
BEGIN: Final = "<!-- begin of the table -->"
END: Final = "<!-- end of the table -->"
NOW: Final = datetime(2026, 6, 15, 12, tzinfo=UTC)
PLAIN: Final = LegacyRow(
    "session-1",
    "alice",
    '{"device":"phone"}',
    "2026-06-14 08:00:00.500000",
    "2026-06-16 08:00:00",
    "2026-06-14 09:00:00",
    3,
)


class Case(NamedTuple):
    """A value in a column of an otherwise plain row."""

    kind: str
    column: str
    value: Any
    zone: str = "Europe/Berlin"

    @property
    def row(self) -> LegacyRow:
        """The whole row."""
        return PLAIN._replace(**{self.column: self.value})

    def outcome(self) -> Readable | Quarantined:
        """What the code makes of it."""
        return read_row(self.row, ZoneInfo(self.zone), NOW)


def _each(column: str, *cases: tuple[str, Any] | tuple[str, Any, str]) -> list[Case]:
    return [Case(kind, column, value, *rest) for kind, value, *rest in cases]


_SPRING: Final = "2026-06-16 08:00:00"
CASES: Final = [
    *_each(
        "session_id",
        ("as old applications write it", "session-6f1c"),
        ("NULL", None),
        ("a blob, or a text that is not UTF-8", b"\xff\xfe"),
        ("a number", 12),
        ("empty", ""),
        ("a NUL character", "session\0x"),
        ("256 characters", "x" * 256),
    ),
    *_each(
        "user_id",
        ("NULL: an anonymous visitor", None),
        ("empty", ""),
        ("a number", 12),
        ("a NUL character", "al\0ice"),
        ("a blob, or a text that is not UTF-8", b"\xff\xfe"),
    ),
    *_each(
        "metadata",
        ("as `json.dumps` writes it", '{"b": 1, "a": "\\u00e9"}'),
        ("NULL", None),
        ("empty", ""),
        ("not JSON", "no json"),
        ("Python's repr", "{'device': 'phone'}"),
        ("an array", "[1]"),
        ("null", "null"),
        ("a blob that is JSON", b'{"a":1}'),
        ("not UTF-8", b'{"a":"\xff"}'),
        ("a NUL character", '{"a":1}\0'),
        ("`\\u0000` in a string", '{"a":"x\\u0000y"}'),
        ("a lone surrogate", '{"a":"\\ud800"}'),
        ("NaN", '{"a":NaN}'),
        ("Infinity", '{"a":-Infinity}'),
        ("a float that overflows", '{"a":1e999}'),
        ("-0.0 and 1e2", '{"a":-0.0,"b":1e2}'),
        ("a key twice", '{"a":1,"a":2}'),
        ("an integer beyond 2^53", '{"a":9007199254740993}'),
        ("an integer of 5,000 digits", '{"a":' + "9" * 5000 + "}"),
        ("65 keys", "{" + ",".join(f'"k{n:02}":{n}' for n in range(65)) + "}"),
        ("17 KiB", '{"a":"' + "x" * 17 * 1024 + '"}'),
        ("2 MiB", '{"a":"' + "x" * 2 * 1024 * 1024 + '"}'),
        ("a key of 3,000 bytes", '{"' + "k" * 3000 + '":1}'),
        ("nested 17 deep", '{"a":' * 17 + "1" + "}" * 17),
        ("nested 200 deep", '{"a":' * 200 + "1" + "}" * 200),
        ("nested 20,000 deep", '{"a":' * 20_000 + "1" + "}" * 20_000),
    ),
    *_each(
        "created_at",
        ("without a fraction", "2026-06-15 08:00:00"),
        ("midnight", "2026-06-15 00:00:00"),
        ("autumn: the repeated hour", "2025-10-26 02:30:00"),
        ("spring: the missing hour", "2026-03-29 02:30:00"),
        ("in the year 1", "0001-01-01 00:00:00"),
        ("in the future", "2026-06-15 15:00:00"),
        ("NULL", None),
        ("nonsense", "yesterday"),
    ),
    *_each(
        "last_activity",
        ("in the future", "2026-06-15 15:00:00"),
        ("NULL", None),
        ("nonsense", "yesterday"),
        ("a blob", b"2026"),
    ),
    *_each(
        "expires_at",
        ("the default form", "2026-06-16 08:00:00.250000"),
        ("without a fraction", _SPRING),
        ("with T", "2026-06-16T08:00:00"),
        ("with Z", "2026-06-16T08:00:00Z"),
        ("with an offset", "2026-06-16 08:00:00.25+05:30"),
        ("a date", "2026-06-17"),
        ("without seconds", "2026-06-16 08:00"),
        ("seconds since 1970", 1781600000),
        ("seconds as text", "1781600000.5"),
        ("milliseconds since 1970", 1781600000000),
        ("a date that SQLite made a number", 20260616),
        ("the end of time", "9999-12-31 23:59:59.999999"),
        ("the end of time, west of UTC", "9999-12-31 23:59:59.999999", "America/New_York"),
        ("the year 1: long past", "0001-01-01 00:00:00"),
        ("autumn: the repeated hour", "2026-10-25 02:30:00"),
        ("autumn, New York", "2026-11-01 01:30:00", "America/New_York"),
        ("autumn, half an hour only", "2027-04-04 01:45:00", "Australia/Lord_Howe"),
        ("spring: the missing hour", "2027-03-28 02:30:00"),
        ("UTC", _SPRING, "UTC"),
        ("New York", _SPRING, "America/New_York"),
        ("Kolkata", _SPRING, "Asia/Kolkata"),
        ("Kathmandu", _SPRING, "Asia/Kathmandu"),
        ("Lord Howe", _SPRING, "Australia/Lord_Howe"),
        ("NULL", None),
        ("nonsense that compares as later", "never"),
        ("nonsense that compares as earlier", "#"),
        ("a day that there is not", "2026-06-31 00:00:00"),
        ("a blob", b"2026"),
    ),
    *_each(
        "request_count",
        ("NULL", None),
        ("a text that is a number", "12.0"),
        ("a text that is none", "0x10"),
        ("a real", 12.9),
        ("negative", -1),
        ("beyond 64 bits, which SQLite keeps as a real", 1e19),
        ("a blob", b"12"),
    ),
]


def table() -> str:
    """The page's table, from the code."""
    lines = ["| column | stored | zone | becomes | repairs, or why not |", "| --- | --- | --- | --- | --- |"]
    lines += [_line(case) for case in CASES]
    return "\n".join(lines)


def _line(case: Case) -> str:
    outcome = case.outcome()
    if isinstance(outcome, Quarantined):
        becomes = f"quarantined, {'live' if outcome.live else 'dead'}"
        remarks = outcome.reasons
    else:
        value = case.value if case.column == "session_id" else getattr(outcome, case.column)
        becomes = f"`{_short(value.isoformat() if isinstance(value, datetime) else str(value))}`"
        remarks = outcome.repairs
    zone = case.zone if case.column.endswith(("_at", "activity")) else ""
    return f"| {case.column} | {_stored(case)} | {zone} | {becomes} | {'; '.join(remarks) or 'exact'} |"


def _stored(case: Case) -> str:
    shown = case.value if isinstance(case.value, str) else repr(case.value)
    plain = (
        case.value is not None and case.value != "" and "\0" not in shown and len(shown) <= 40 and "`" not in case.kind
    )
    return f"{case.kind}: `{shown}`" if plain else case.kind


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}…"


def _write() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    _write()
