"""Alembic's environment. Run from `holdfast.sql.schema` only, which hands over the connection and the schema."""

from alembic import context

from holdfast.sql.tables import VERSION_TABLE, tables

config = context.config
schema = config.attributes["schema"]
options = {
    "target_metadata": tables(schema).metadata,
    "version_table": VERSION_TABLE,
    "version_table_schema": schema,
    "include_schemas": schema is not None,
}

if context.is_offline_mode():
    # A script is run whole or not at all, on SQLite too.
    context.configure(dialect_name=config.attributes["dialect"], literal_binds=True, transactional_ddl=True, **options)
else:
    # One transaction, begun by the caller under its lock.
    context.configure(connection=config.attributes["connection"], transactional_ddl=False, **options)

with context.begin_transaction():
    context.run_migrations()
