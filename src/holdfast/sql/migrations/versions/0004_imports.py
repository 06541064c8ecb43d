"""Sessions may have come from an application's own table: which have its tokens, and what each row there became.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark of such sessions, and the table of rows that were carried."""
    schema = _schema()
    op.add_column(
        "sessions",
        sa.Column(
            "clear_token",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="whether the present token has another application's form",
        ),
        schema=schema,
    )
    op.create_index(
        "sessions_clear_token_idx",
        "sessions",
        ["id"],
        postgresql_where=sa.column("clear_token"),
        sqlite_where=sa.column("clear_token"),
        schema=schema,
    )
    op.create_table(
        "holdfast_imported",
        sa.Column("digest", sa.LargeBinary, primary_key=True, comment="SHA-256 of the token, or of a row without one"),
        sa.Column("session_id", sa.Uuid(), comment="what it became; null when quarantined"),
        sa.Column("user_id", sa.Text),
        sa.Column("remarks", sa.Text, nullable=False, comment="repairs, or why not; empty for an exact row"),
        sa.Column("live", sa.Boolean, nullable=False, comment="whether somebody may have been logged in by it"),
        sa.Column("original", sa.Text, comment="JSON of all but the token; null for an exact row"),
        schema=schema,
    )
    op.create_index(
        "holdfast_imported_user_id_idx",
        "holdfast_imported",
        ["user_id"],
        postgresql_where=sa.column("user_id").is_not(None),
        sqlite_where=sa.column("user_id").is_not(None),
        schema=schema,
    )


def downgrade() -> None:
    """Forget it. Tokens of another form open nothing then."""
    schema = _schema()
    op.drop_table("holdfast_imported", schema=schema)
    op.drop_index("sessions_clear_token_idx", "sessions", schema=schema)
    op.drop_column("sessions", "clear_token", schema=schema)


def _schema() -> str | None:
    """The PostgreSQL schema; `None` on SQLite."""
    schema: str | None = op.get_context().version_table_schema
    return schema
