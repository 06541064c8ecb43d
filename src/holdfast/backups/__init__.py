"""Backups of a store: take one, put one back, clear old ones away. Knows the databases, prints nothing."""
