"""Views for analysts, once, for both databases: no digest, no metadata but one key, times that people can read.

They name as few columns as they need. A migration that changes one of those drops the views first and makes them
again at its end; the migrations are compared with this file by a test.
"""

from typing import Final

from holdfast.sql.functions import SQLITE_CLOCK

DEVICE_KEY: Final = "device"
"""The key of the metadata that says what a session was made on, where an application keeps that."""

VIEWS: Final = (
    "holdfast_sessions_live",
    "holdfast_session_durations",
    "holdfast_sessions_per_hour",
    "holdfast_sessions_per_user",
    "holdfast_sessions_per_device",
)
_REASONS: Final = ("expired", "idle", "revoked", "evicted")


def view_statements(schema: str | None) -> dict[str, str]:
    """The statement that makes each view, by its name; `None` is SQLite, which has no schemas."""
    qualified = "" if schema is None else f'"{schema}".'
    return {name: f"CREATE VIEW {qualified}{name} AS {query}" for name, query in _queries(qualified).items()}


def _queries(qualified: str) -> dict[str, str]:
    sqlite = not qualified
    sessions = f"{qualified}sessions"
    now = SQLITE_CLOCK if sqlite else "statement_timestamp()"
    device = f"json_extract(metadata, '$.{DEVICE_KEY}')" if sqlite else f"metadata ->> '{DEVICE_KEY}'"
    seconds = "(ended_at - created_at) / 1000000.0" if sqlite else "extract(epoch FROM ended_at - created_at)"
    live = f"ended_at IS NULL AND expires_at > {now}"

    def shown(column: str, name: str) -> str:
        if not sqlite:
            return column if column == name else f"{column} AS {name}"
        return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000000.0, 'unixepoch') AS {name}"

    def hour(column: str) -> str:
        if sqlite:
            return f"strftime('%Y-%m-%dT%H:00:00Z', {column} / 1000000, 'unixepoch')"
        return f"date_trunc('hour', {column}, 'UTC')"

    created, ended = shown("created_at", "created_at"), shown("ended_at", "ended_at")
    times = f"{created}, {shown('expires_at', 'expires_at')}, {shown('last_activity', 'last_activity')}"
    last = shown("max(last_activity)", "last_activity")
    ends = ", ".join(f"sum(CASE WHEN reason = '{each}' THEN 1 ELSE 0 END) AS {each}" for each in _REASONS)
    counted = (
        f"sum(CASE WHEN {live} THEN 1 ELSE 0 END) AS live, count(ended_at) AS ended, "
        "count(*) AS kept, sum(request_count) AS requests"
    )
    happened = " UNION ALL ".join(
        (
            f"SELECT {hour('created_at')} AS hour, 1 AS created, NULL AS reason FROM {sessions}",  # noqa: S608 - as below
            f"SELECT {hour('ended_at')}, 0, end_reason FROM {sessions} WHERE ended_at IS NOT NULL",  # noqa: S608 - as below
        )
    )
    selected = (
        ("id, user_id, " + times + ", request_count", sessions, f"WHERE {live}"),
        (
            f"id, user_id, {created}, {ended}, end_reason, {seconds} AS seconds, request_count",
            sessions,
            "WHERE ended_at IS NOT NULL",
        ),
        (
            "hour, sum(created) AS created, sum(1 - created) AS ended, " + ends,
            f"({happened}) AS happened",
            "GROUP BY hour",
        ),
        (f"user_id, {counted}, {last}", sessions, "WHERE user_id IS NOT NULL GROUP BY user_id"),
        (f"{device} AS device, {counted}", sessions, f"GROUP BY {device}"),
    )
    return {
        name: f"SELECT {columns} FROM {source} {rest}"  # noqa: S608 - our own words, and a schema name that was checked
        for name, (columns, source, rest) in zip(VIEWS, selected, strict=True)
    }
