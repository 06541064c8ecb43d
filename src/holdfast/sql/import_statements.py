"""The statements of an import, and of what it leaves behind. Nothing runs here."""

from functools import cached_property
from typing import Any

from sqlalchemy import (
    Boolean,
    LargeBinary,
    Select,
    Text,
    Update,
    Uuid,
    bindparam,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from holdfast.sql.functions import json_value
from holdfast.sql.tables import Instant
from holdfast.sql.terms import Terms

Insert = Any


class ImportStatements(Terms):
    """The statements for one schema under one policy."""

    @cached_property
    def any_clear_token(self) -> Select[Any]:
        """Whether a session that has not ended has a token of another form: a look into a small index."""
        columns = self._sessions.c
        return select(select(columns.id).where(columns.clear_token, self._open).exists())

    def note_imported(self, dialect: str) -> Insert:
        """Note a row as imported, unless it is already; the digest if it is new."""
        imported = self._tables.imported
        insert = postgresql_insert if dialect == "postgresql" else sqlite_insert
        return (
            insert(imported)
            .values(
                digest=bindparam("row_digest", type_=LargeBinary),
                session_id=bindparam("row_id", type_=Uuid()),
                user_id=bindparam("row_user", type_=Text()),
                remarks=bindparam("row_remarks", type_=Text()),
                live=bindparam("row_live", type_=Boolean()),
                original=bindparam("row_original", type_=Text()),
            )
            .on_conflict_do_nothing(index_elements=[imported.c.digest])
            .returning(imported.c.digest)
        )

    def carry(self, dialect: str) -> Insert:
        """Insert the session of a row that was just noted, unless its token opens one already."""
        insert = postgresql_insert if dialect == "postgresql" else sqlite_insert
        return (
            insert(self._sessions)
            .values(
                id=bindparam("row_id", type_=Uuid()),
                digest=bindparam("row_digest", type_=LargeBinary),
                user_id=bindparam("row_user", type_=Text()),
                metadata=json_value(bindparam("row_metadata", type_=Text())),
                created_at=bindparam("row_created_at", type_=Instant()),
                expires_at=bindparam("row_expires_at", type_=Instant()),
                last_activity=bindparam("row_last_activity", type_=Instant()),
                request_count=bindparam("row_request_count"),
                clear_token=true(),
            )
            .on_conflict_do_nothing()
        )

    @cached_property
    def erase_imported(self) -> Update:
        """Empty what imports have kept of a user. That a row was imported stays known, without saying whose it was."""
        imported = self._tables.imported
        return (
            update(imported)
            .where(imported.c.user_id == bindparam("user", type_=Text()))
            .values(user_id=null(), original=null())
        )
