"""Pages of sessions, whose `next` is null on the last one, also when that is exactly full."""

from uuid import UUID

from holdfast.sessions.manager import MAX_PAGE, SessionManager
from holdfast.sessions.session import Session


async def read_page(
    manager: SessionManager, user_id: str | None, limit: int, after: UUID | None
) -> tuple[list[Session], str | None]:
    """At most `limit` live sessions of a user, or of all, and the `after` of the next page if one follows."""
    start = None if after is None else str(after)
    found = list(await manager.list_sessions(user_id, min(limit + 1, MAX_PAGE), start))
    if len(found) < limit:
        return found, None
    page, following = found[:limit], found[limit:]
    if limit == MAX_PAGE:
        # One more than that cannot be asked for at once.
        following = list(await manager.list_sessions(user_id, 1, page[-1].id))
    return page, page[-1].id if following else None
