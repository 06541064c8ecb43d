"""Each store gets an identity, so that a backup of another one is not restored into it by mistake.

Revision: 0002, after 0001
"""

from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(TIMESTAMP(timezone=True), "postgresql")
STORE_ID = "what a backup is known by; copies of the whole database share it"


def upgrade() -> None:
    """Give the store an identity, made by the database: a script that is kept as text must not give it to several."""
    schema = _schema()
    if schema is None:
        _rebuild(sa.Column("store_id", sa.Uuid(), nullable=False, comment=STORE_ID), "lower(hex(randomblob(16)))")
        return
    op.add_column("holdfast_control", sa.Column("store_id", sa.Uuid(), comment=STORE_ID), schema=schema)
    op.execute(f'UPDATE "{schema}".holdfast_control SET store_id = gen_random_uuid()')  # noqa: S608 - a checked name
    op.alter_column("holdfast_control", "store_id", nullable=False, schema=schema)


def downgrade() -> None:
    """Forget the identity. Backups that name it are strangers' then."""
    schema = _schema()
    if schema is None:
        _rebuild(None, "")
    else:
        op.drop_column("holdfast_control", "store_id", schema=schema)


def _schema() -> str | None:
    """The PostgreSQL schema; `None` on SQLite."""
    schema: str | None = op.get_context().version_table_schema
    return schema


def _rebuild(column: "sa.Column[UUID] | None", value: str) -> None:
    # SQLite can add no column that must have a value of its own in each file: the one row moves into a new table.
    columns = "id, authority, epoch, hooks_expected_at"
    op.rename_table("holdfast_control", "holdfast_control_before")
    op.create_table(
        "holdfast_control",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, comment="always 1: there is one row"),
        sa.Column("authority", sa.Text, nullable=False, comment="here while this store accepts writes"),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every change of authority"),
        sa.Column("hooks_expected_at", INSTANT, comment="when a process with an end hook was last here"),
        *(() if column is None else (column,)),
        sa.CheckConstraint("id = 1", name="holdfast_control_one_row_check"),
    )
    more = f", {value}" if value else ""
    op.execute(f"INSERT INTO holdfast_control SELECT {columns}{more} FROM holdfast_control_before")  # noqa: S608 - ours
    op.drop_table("holdfast_control_before")
