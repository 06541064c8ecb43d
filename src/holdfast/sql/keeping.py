"""Keeping the tokens of new sessions in clear, which only a move from a legacy file can ask for.

Without them a roll-back gives such sessions back to Holdfast, which knows them by their digests, and not to the old
application. The move makes the place for them and takes it away; until then the database opens what it holds.
"""

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import InternalError, ProgrammingError

KEEP_TOKEN: Final = "holdfast_keep_token"  # noqa: S105 - the name of a function
_THERE: Final = "{schema}.{function}(bytea, text)"


@runtime_checkable
class KeepsTokens(Protocol):
    """A store that can be asked to keep tokens in clear."""

    async def keep_token(self, digest: bytes) -> None:
        """Keep the token that stands beside a digest, if a move has asked for that. Safe to repeat."""


def token_of(digest: bytes) -> str | None:
    """The token that stands beside a digest; `None` for a plain one."""
    token: str | None = getattr(digest, "token", None)
    return token


def keeping(schema: str, digest: bytes, token: str) -> Callable[[Connection, bool], None]:
    """Keep a token, if there is a place for it: a look into the catalogue otherwise."""
    quoted = f'"{schema}"'

    def keep(connection: Connection, _: bool) -> None:
        there = select(func.to_regprocedure(_THERE.format(schema=quoted, function=KEEP_TOKEN)))
        if connection.scalar(there) is None:
            return
        statement = text(f"SELECT {quoted}.{KEEP_TOKEN}(:digest, :token)")
        try:
            connection.execute(statement, {"digest": bytes(digest), "token": token}).close()
        except (ProgrammingError, InternalError):
            connection.rollback()
            # The move may have ended meanwhile, and have taken the place away: then there is nothing to keep it for.
            if connection.scalar(there) is not None:
                raise

    return keep
