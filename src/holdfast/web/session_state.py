"""One visitor's session behind `request.session`, for one request or one socket: read once, saved by key.

Three things may have become of the dict:

- *changed*: the keys that were set and removed are merged into what the store has by then, so that parallel requests
  keep each other's keys. Of two that set the same key the later one wins. When nothing is left the session ends.
- *cleared*: the session ends, whatever others have written. What was put in after that begins a new session, under
  a new token.
- *logged in or out*: the key that names the user changed. There is a new session under a new token, which carries
  the rest over, and the old one ends (session fixation; OWASP ASVS 5.0, 7.2.4).

A session that was over before its request could save stays over, and the changes are dropped. Only a log-in, which
the application has decided in this very request, makes a session even then: of nothing but what this request set.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from holdfast.sessions.errors import Overloaded
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.metadata import decode
from holdfast.sessions.session import NewSession
from holdfast.sessions.tokens import TokenDigest, digest_for, digest_of_new
from holdfast.web.lazy_manager import LazyManager
from holdfast.web.session_dict import Changes, SessionDict, kept_form, kept_text
from holdfast.web.session_rules import EMPTIED, SAVED_AT, SessionRules, milliseconds
from holdfast.web.succession import Succession

log = logging.getLogger("holdfast.web")

# Of any number of parallel saves one gets through each time, as in the manager's own merge.
_ATTEMPTS: Final = 100
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CookieChange:
    """What the answer has to do about the cookie."""

    token: str | None
    """The token to set; `None` to delete the cookie."""
    late: bool = False
    """Whether it is deleted because the session was over already: the browser may have another one by now."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The live session that a request came with or has begun."""

    id: UUID
    token: str
    digest: TokenDigest
    user_id: str | None
    created_at: datetime
    expires_at: datetime
    asked_at: datetime
    """The store's time when this was read."""


class SessionState:
    """What one request or socket knows of its session."""

    def __init__(self, keeper: LazyManager, rules: SessionRules) -> None:
        """The state of a visitor without a session; asks nothing."""
        self.session = SessionDict()
        """What the application sees."""
        self._keeper = keeper
        self._rules = rules
        self._known: _Known | None = None
        # The values as they were read or last saved. As text, which no change inside a value reaches.
        self._before = "{}"

    async def load(self, token: str) -> None:
        """Read the session that a token opens, and count one activity. Asks no store about what nobody issued.

        It validates rather than reads: a request that has the cookie is one activity, whether or not the application
        looks at the session, which has to be there before anybody knows.

        Raises `StoreUnavailable` and `StoreRefused`.
        """
        manager = await self._keeper.ready()
        digest = digest_for(manager.store, token)
        if digest is None:
            return
        session = await manager.validate_session(token)
        if session is None:
            return
        if EMPTIED in session.metadata:
            await manager.end_session(session.id)
            return
        if self._rules.has_outlived(session, manager.policy):
            await manager.end_session(session.id, "expired")
            return
        self._know(
            _Known(
                UUID(session.id),
                token,
                digest,
                session.user_id,
                session.created_at,
                session.expires_at,
                session.last_activity,
            )
        )
        values = _without_note(session.metadata)
        self._before = json.dumps(values)
        # The dict is new, so this is no change of it.
        dict.update(self.session, values)

    async def save(self, *, answering: bool = True) -> CookieChange | None:
        """Bring the store up to what the application has done; what to do about the cookie, `None` for nothing.

        Args:
            answering: whether the client can still be given a cookie. In an open socket it cannot: what would need
                one is not saved then, with a warning.

        Raises `InvalidArgument`, naming the key, for what cannot be kept; nothing was changed then. Raises
        `StoreUnavailable`, `StoreRefused` and `TooManySessions`. Safe to repeat.
        """
        if not self.session.modified:
            return None
        now = kept_form(self.session)
        # Before any store is asked; of a merge it is checked again with what others have put in.
        kept_text(now)
        before = json.loads(self._before)
        user_id = self._rules.user_of(now)
        changes = Changes.between(before, now)
        cleared, logs = self.session.cleared, self._rules.names_another(before, now)
        if not answering and not changes and not cleared:
            return None
        change = await self._saved(changes, now, user_id, cleared=cleared, logs=logs, answering=answering)
        self._before = json.dumps(now)
        self.session.cleared = False
        return change

    async def _saved(
        self,
        changes: Changes,
        now: Mapping[str, Any],
        user_id: str | None,
        *,
        cleared: bool,
        logs: bool,
        answering: bool,
    ) -> CookieChange | None:
        known = self._known
        if known is None:
            if not now:
                return None
            if not answering:
                log.warning("an open socket can begin no session, so what was put into websocket.session is dropped")
                return None
            made = self._succession(await self._keeper.ready())
            return self._given(await made.begin(now, user_id), user_id)
        manager = await self._keeper.ready()
        if not (cleared or logs):
            return await self._merge(manager, known, changes, answering=answering)
        if now and answering:
            return await self._replace(manager, known, changes, now, user_id, cleared=cleared, logs=logs)
        if now:
            log.warning(
                "session %s: an open socket can begin no session, so what was put into websocket.session after "
                "clearing it, logging in or logging out is dropped",
                known.id,
            )
            if logs and user_id is not None and not cleared:
                return None
        return await self._end(manager, known)

    # What may become of a session

    async def _merge(
        self, manager: SessionManager, known: _Known, changes: Changes, *, answering: bool
    ) -> CookieChange | None:
        """Compare and set until it is done: a lost race is merged again with what the others wrote."""
        policy, rules, store = manager.policy, self._rules, manager.store
        # In a socket nobody knows how long ago it was read.
        due = not answering or rules.is_extension_due(policy, known.created_at, known.expires_at, known.asked_at)
        if due and await manager.extend_by_id(str(known.id), rules.span(policy) / _HOUR) is None:
            return self._dropped(known)
        noted = None
        if rules.notes_saves(policy):
            noted = milliseconds(known.asked_at if answering else await store.ping())
        for _ in range(_ATTEMPTS):
            # By its token first: one that was rotated away meanwhile must not be given to the browser again.
            record = await store.get(known.digest)
            current = record is not None
            if record is None and (record := await store.get(known.id)) is None:
                return self._dropped(known)
            metadata = decode(record.metadata)
            if EMPTIED in metadata:
                await manager.end_session(str(known.id))
                return self._dropped(known)
            values = changes.onto(_without_note(metadata))
            emptied = not values and bool(changes.removed)
            text = kept_text({EMPTIED: True} if emptied else _with_note(values, noted))
            if text == record.metadata or await store.set_metadata(record.id, record.metadata_version, text):
                if emptied:
                    return await self._end(manager, known)
                return CookieChange(known.token) if current and rules.max_age is not None else None
        raise Overloaded(
            f"others changed the session {_ATTEMPTS} times, each time before this request could save; it may be sent "
            "again after a pause"
        )

    async def _replace(
        self,
        manager: SessionManager,
        known: _Known,
        changes: Changes,
        now: Mapping[str, Any],
        user_id: str | None,
        *,
        cleared: bool,
        logs: bool,
    ) -> CookieChange | None:
        """A new session in the place of the one that is known."""
        values: Mapping[str, Any] | None = now
        if not cleared:
            record = await manager.store.get(known.id)
            metadata = None if record is None else decode(record.metadata)
            values = None if metadata is None or EMPTIED in metadata else changes.onto(_without_note(metadata))
        made = self._succession(manager)
        if values is not None:
            new = await made.succeed(str(known.id), known.user_id, values, user_id)
            if new is not None:
                return self._given(new, user_id)
        if not (logs and user_id is not None):
            return self._dropped(known)
        return self._given(await made.begin(changes.onto({}), user_id), user_id)

    def _succession(self, manager: SessionManager) -> Succession:
        return Succession(manager, self._rules.span(manager.policy))

    async def _end(self, manager: SessionManager, known: _Known) -> CookieChange:
        await manager.end_session(str(known.id))
        self._know(None)
        return CookieChange(None)

    def _dropped(self, known: _Known) -> CookieChange:
        log.debug("session %s was over before this request could save; its changes are dropped", known.id)
        self._know(None)
        return CookieChange(None, late=True)

    def _given(self, new: NewSession, user_id: str | None) -> CookieChange:
        # Only an open socket goes on with it, and that asks for the times again.
        digest, moment = digest_of_new(new.token), new.expires_at
        self._know(_Known(UUID(new.id), new.token, digest, user_id, moment, moment, moment))
        return CookieChange(new.token)

    def _know(self, known: _Known | None) -> None:
        self._known = known
        self.session.id = None if known is None else str(known.id)


def _without_note(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key != SAVED_AT}


def _with_note(values: dict[str, Any], noted: int | None) -> dict[str, Any]:
    return values if noted is None else {**values, SAVED_AT: noted}
