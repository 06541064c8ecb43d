"""Which processes use a store is noted in it, so that a move knows who has to follow.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Add the table. Whoever may write tickets is a server's role, and may write its note as well."""
    schema = _schema()
    op.create_table(
        "holdfast_processes",
        sa.Column("id", sa.Uuid(), primary_key=True, comment="of one open store in one process"),
        sa.Column("host", sa.Text, nullable=False, comment="the name of its machine"),
        sa.Column("pid", sa.BigInteger, nullable=False, comment="its number there"),
        sa.Column("follows", sa.Boolean, nullable=False, comment="whether it knows both stores of a move"),
        sa.Column("seen_at", INSTANT, nullable=False, comment="when it was last here"),
        schema=schema,
    )
    if schema is not None:
        op.execute(
            "DO $$ DECLARE role name; BEGIN FOR role IN SELECT DISTINCT grantee FROM "  # noqa: S608 - a checked name
            "information_schema.role_table_grants WHERE table_name = 'holdfast_tickets' AND privilege_type = 'INSERT' "
            f"AND table_schema = '{schema}' AND grantee NOT IN ('PUBLIC', current_user) LOOP "
            f"EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.holdfast_processes TO %I', '{schema}', role); "
            "END LOOP; END $$"
        )


def downgrade() -> None:
    """Forget them."""
    op.drop_table("holdfast_processes", schema=_schema())


def _schema() -> str | None:
    """The PostgreSQL schema; `None` on SQLite."""
    schema: str | None = op.get_context().version_table_schema
    return schema
