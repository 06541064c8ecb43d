"""The first tables: sessions, one-time tickets, and the control row that says who accepts writes.

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out rather than imported: a migration says what was true when it was written.
INSTANT = sa.BigInteger().with_variant(TIMESTAMP(timezone=True), "postgresql")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables; on PostgreSQL also the fence, which stands open until a move closes it."""
    schema = _schema()
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), primary_key=True, comment="public handle, UUIDv7; opens nothing"),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the present token"),
        sa.Column(
            "previous_digest",
            sa.LargeBinary,
            comment="of the token that rotation replaced; null before the first",
        ),
        sa.Column("replaced_at", INSTANT, comment="when the present token replaced it"),
        sa.Column("user_id", sa.Text, comment="null for an anonymous visitor"),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("metadata_version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("last_activity", INSTANT, nullable=False),
        sa.Column("request_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("ended_at", INSTANT, comment="null until ended or swept"),
        sa.Column("end_reason", sa.Text, comment="expired, idle, revoked or evicted; null until ended_at is set"),
        sa.Column("notified_at", INSTANT, comment="when an end hook had heard of it; null until then"),
        sa.CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="sessions_end_check"),
        schema=schema,
    )
    live, ended = sa.text("end_reason IS NULL"), sa.text("ended_at IS NOT NULL")
    _index("sessions_digest_key", ["digest"], unique=True)
    _index("sessions_previous_digest_idx", ["previous_digest"], where=sa.text("previous_digest IS NOT NULL"))
    _index("sessions_expires_at_idx", ["expires_at"], where=live)
    _index("sessions_user_id_idx", ["user_id", "id"], where=sa.text("user_id IS NOT NULL"))
    _index("sessions_ended_at_idx", ["ended_at"], where=ended)
    op.create_table(
        "holdfast_tickets",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("origin", sa.Text, comment="the Origin header it is bound to; null for none"),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id" if schema is None else f"{schema}.sessions.id"], ondelete="CASCADE"
        ),
        schema=schema,
    )
    op.create_index("holdfast_tickets_session_id_idx", "holdfast_tickets", ["session_id"], schema=schema)
    op.create_index("holdfast_tickets_expires_at_idx", "holdfast_tickets", ["expires_at"], schema=schema)
    control = op.create_table(
        "holdfast_control",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, comment="always 1: there is one row"),
        sa.Column("authority", sa.Text, nullable=False, comment="here while this store accepts writes"),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every change of authority"),
        sa.Column("hooks_expected_at", INSTANT, comment="when a process with an end hook was last here"),
        sa.CheckConstraint("id = 1", name="holdfast_control_one_row_check"),
        schema=schema,
    )
    op.bulk_insert(control, [{"id": 1, "authority": "here", "epoch": 1}])
    if schema is not None:
        _postgresql_only(f'"{schema}".')


def downgrade() -> None:
    """Remove everything, sessions included."""
    schema = _schema()
    for table in ("holdfast_control", "holdfast_tickets", "sessions"):
        op.drop_table(table, schema=schema)
    if schema is not None:
        op.execute(f'DROP FUNCTION "{schema}".holdfast_fence()')


def _schema() -> str | None:
    """The PostgreSQL schema; `None` on SQLite."""
    schema: str | None = op.get_context().version_table_schema
    return schema


def _index(name: str, columns: list[str], *, unique: bool = False, where: sa.TextClause | None = None) -> None:
    op.create_index(
        name, "sessions", columns, unique=unique, schema=_schema(), postgresql_where=where, sqlite_where=where
    )


def _postgresql_only(qualified: str) -> None:
    # Room in every page, so that an update of a row finds place beside it and touches no index; and the dead
    # versions are cleared away often, because every validate leaves one. Statistics of a nearly empty table would
    # make the planner prefer to read all of it, and it would go on doing so while the table fills.
    op.execute(
        f"ALTER TABLE {qualified}sessions SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, "
        "autovacuum_vacuum_cost_delay = 1, autovacuum_analyze_threshold = 1000)"
    )
    # The fence is a trigger, not a look at a table: a transaction with an old snapshot would not see the table's
    # new state. It is switched by ENABLE ALWAYS and DISABLE, which wait for open writers and not for readers.
    op.execute(
        f"CREATE FUNCTION {qualified}holdfast_fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'this store does not accept writes: another one holds the authority' "
        "USING ERRCODE = 'HF001'; END $$"
    )
    for table in ("sessions", "holdfast_tickets"):
        op.execute(
            f"CREATE TRIGGER holdfast_fence BEFORE INSERT OR UPDATE OR DELETE ON {qualified}{table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {qualified}holdfast_fence()"
        )
        op.execute(
            f"CREATE TRIGGER holdfast_fence_truncate BEFORE TRUNCATE ON {qualified}{table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {qualified}holdfast_fence()"
        )
        op.execute(f"ALTER TABLE {qualified}{table} DISABLE TRIGGER holdfast_fence")
        op.execute(f"ALTER TABLE {qualified}{table} DISABLE TRIGGER holdfast_fence_truncate")
