"""The store contract on SQLite and PostgreSQL, through SQLAlchemy Core."""
