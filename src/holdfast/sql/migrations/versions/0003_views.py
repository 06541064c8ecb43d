"""Views for analysts: live sessions, durations, and counts per hour, user and device. They show no digest.

Revision: 0003, after 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Written out rather than imported: a migration says what was true when it was written.
_SQLITE = {
    "holdfast_sessions_live": (
        "SELECT id, user_id, strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000000.0, 'unixepoch') AS "
        "created_at, strftime('%Y-%m-%dT%H:%M:%fZ', expires_at / 1000000.0, 'unixepoch') AS expires_at, "
        "strftime('%Y-%m-%dT%H:%M:%fZ', last_activity / 1000000.0, 'unixepoch') AS last_activity, "
        "request_count FROM sessions WHERE ended_at IS NULL AND expires_at > (CAST((julianday('now') - "
        "2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000)"
    ),
    "holdfast_session_durations": (
        "SELECT id, user_id, strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000000.0, 'unixepoch') AS "
        "created_at, strftime('%Y-%m-%dT%H:%M:%fZ', ended_at / 1000000.0, 'unixepoch') AS ended_at, "
        "end_reason, (ended_at - created_at) / 1000000.0 AS seconds, request_count FROM sessions WHERE "
        "ended_at IS NOT NULL"
    ),
    "holdfast_sessions_per_hour": (
        "SELECT hour, sum(created) AS created, sum(1 - created) AS ended, sum(CASE WHEN reason = 'expired' "
        "THEN 1 ELSE 0 END) AS expired, sum(CASE WHEN reason = 'idle' THEN 1 ELSE 0 END) AS idle, sum(CASE "
        "WHEN reason = 'revoked' THEN 1 ELSE 0 END) AS revoked, sum(CASE WHEN reason = 'evicted' THEN 1 ELSE "
        "0 END) AS evicted FROM (SELECT strftime('%Y-%m-%dT%H:00:00Z', created_at / 1000000, 'unixepoch') AS "
        "hour, 1 AS created, NULL AS reason FROM sessions UNION ALL SELECT strftime('%Y-%m-%dT%H:00:00Z', "
        "ended_at / 1000000, 'unixepoch'), 0, end_reason FROM sessions WHERE ended_at IS NOT NULL) AS "
        "happened GROUP BY hour"
    ),
    "holdfast_sessions_per_user": (
        "SELECT user_id, sum(CASE WHEN ended_at IS NULL AND expires_at > (CAST((julianday('now') - 2440587.5)"
        " * 86400000.0 + 0.5 AS INTEGER) * 1000) THEN 1 ELSE 0 END) AS live, count(ended_at) AS ended, "
        "count(*) AS kept, sum(request_count) AS requests, strftime('%Y-%m-%dT%H:%M:%fZ', max(last_activity) "
        "/ 1000000.0, 'unixepoch') AS last_activity FROM sessions WHERE user_id IS NOT NULL GROUP BY user_id"
    ),
    "holdfast_sessions_per_device": (
        "SELECT json_extract(metadata, '$.device') AS device, sum(CASE WHEN ended_at IS NULL AND expires_at >"
        " (CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000) THEN 1 ELSE 0 END) AS "
        "live, count(ended_at) AS ended, count(*) AS kept, sum(request_count) AS requests FROM sessions GROUP"
        " BY json_extract(metadata, '$.device')"
    ),
}
_POSTGRESQL = {
    "holdfast_sessions_live": (
        "SELECT id, user_id, created_at, expires_at, last_activity, request_count FROM {qualified}sessions "
        "WHERE ended_at IS NULL AND expires_at > statement_timestamp()"
    ),
    "holdfast_session_durations": (
        "SELECT id, user_id, created_at, ended_at, end_reason, extract(epoch FROM ended_at - created_at) AS "
        "seconds, request_count FROM {qualified}sessions WHERE ended_at IS NOT NULL"
    ),
    "holdfast_sessions_per_hour": (
        "SELECT hour, sum(created) AS created, sum(1 - created) AS ended, sum(CASE WHEN reason = 'expired' "
        "THEN 1 ELSE 0 END) AS expired, sum(CASE WHEN reason = 'idle' THEN 1 ELSE 0 END) AS idle, sum(CASE "
        "WHEN reason = 'revoked' THEN 1 ELSE 0 END) AS revoked, sum(CASE WHEN reason = 'evicted' THEN 1 ELSE "
        "0 END) AS evicted FROM (SELECT date_trunc('hour', created_at, 'UTC') AS hour, 1 AS created, NULL AS "
        "reason FROM {qualified}sessions UNION ALL SELECT date_trunc('hour', ended_at, 'UTC'), 0, end_reason "
        "FROM {qualified}sessions WHERE ended_at IS NOT NULL) AS happened GROUP BY hour"
    ),
    "holdfast_sessions_per_user": (
        "SELECT user_id, sum(CASE WHEN ended_at IS NULL AND expires_at > statement_timestamp() THEN 1 ELSE 0 "
        "END) AS live, count(ended_at) AS ended, count(*) AS kept, sum(request_count) AS requests, "
        "max(last_activity) AS last_activity FROM {qualified}sessions WHERE user_id IS NOT NULL GROUP BY "
        "user_id"
    ),
    "holdfast_sessions_per_device": (
        "SELECT metadata ->> 'device' AS device, sum(CASE WHEN ended_at IS NULL AND expires_at > "
        "statement_timestamp() THEN 1 ELSE 0 END) AS live, count(ended_at) AS ended, count(*) AS kept, "
        "sum(request_count) AS requests FROM {qualified}sessions GROUP BY metadata ->> 'device'"
    ),
}


def upgrade() -> None:
    """Make the views."""
    schema = _schema()
    qualified = "" if schema is None else f'"{schema}".'
    for name, query in (_SQLITE if schema is None else _POSTGRESQL).items():
        op.execute(f"CREATE VIEW {qualified}{name} AS " + query.replace("{qualified}", qualified))


def downgrade() -> None:
    """Remove them."""
    schema = _schema()
    qualified = "" if schema is None else f'"{schema}".'
    for name in _SQLITE:
        op.execute(f"DROP VIEW {qualified}{name}")


def _schema() -> str | None:
    """The PostgreSQL schema; `None` on SQLite."""
    schema: str | None = op.get_context().version_table_schema
    return schema
