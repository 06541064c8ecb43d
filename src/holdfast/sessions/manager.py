"""The verbs: everything an application does with sessions.

The manager checks arguments, makes tokens and ids, and turns records into sessions. Whether a session is live, and
what a write does to it, is decided by the store in one statement each; see `store.py` for those promises.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self, get_args
from uuid import UUID

from holdfast.sessions import metadata as metadata_rules
from holdfast.sessions.clock import Clock
from holdfast.sessions.ends import EndHook, Ends
from holdfast.sessions.errors import InvalidArgument, StoreUnavailable
from holdfast.sessions.ids import new_id, parse_id
from holdfast.sessions.merging import merge_metadata, plain
from holdfast.sessions.observer import NOBODY, Counts, Guarded, Load, Observed, Observer
from holdfast.sessions.policy import (
    DEFAULT_LIFETIME,
    DEFAULT_MAX_LIFETIME,
    DEFAULT_RETENTION,
    AtCap,
    Duration,
    Policy,
    duration,
)
from holdfast.sessions.replays import OnReplay, Replays
from holdfast.sessions.session import (
    End,
    EndReason,
    NewRecord,
    NewSession,
    Record,
    Session,
    WhyEnded,
    checked_reason,
    checked_user_id,
)
from holdfast.sessions.store import Key, Store, StoreOptions, TwoStores
from holdfast.sessions.sweeper import Sweeper, Swept, clean_up, sweep
from holdfast.sessions.tickets import MAX_ORIGIN, may_bind
from holdfast.sessions.tokens import (
    TokenDigest,
    digest_for,
    digest_of_new,
    digest_of_new_for,
    new_ticket,
    new_token,
    ticket_digest_of,
)
from holdfast.sessions.watch import Watch
from holdfast.sessions.watches import Watches

MAX_PAGE = 1000

log = logging.getLogger("holdfast.sessions")

StoreOpener = Callable[[str | os.PathLike[str] | TwoStores | None, StoreOptions], Store]


class SessionManager:
    """Sessions of one application, kept in one store.

        async with SessionManager("sqlite:///sessions.db") as sessions:
            token, expires_at = await sessions.create_session(user_id="u1")
            session = await sessions.validate_session(token)

    Safe to make before an event loop runs; used from the loop that opened it, by any number of tasks. Every method
    that asks the store may raise `StoreUnavailable` (nothing was done), `Overloaded` (a `StoreUnavailable`: too many
    calls are waiting) or, where it writes, `OutcomeUnknown` (a `StoreUnavailable`: it may have been done).

    The deadline is that of one store call. A method that makes several says so: each of them has the deadline to
    itself, and an error is about the call that failed, not about those before it.

    A caller that is cancelled while it ends sessions does not stop that: the end is made, watches and hook hear of it.
    """

    open_store: ClassVar[StoreOpener]
    """Makes a store from an address, or from the environment for `None`. Wired in `holdfast/__init__.py`."""
    from_environment: ClassVar[Callable[[], "SessionManager"]]
    """Makes a manager with every setting of the environment. Wired in `holdfast/__init__.py`."""

    def __init__(
        self,
        store: "Store | str | os.PathLike[str] | TwoStores | None" = None,
        *,
        session_ttl_hours: float = DEFAULT_LIFETIME / timedelta(hours=1),
        idle_timeout: Duration | None = None,
        max_lifetime: Duration | None = DEFAULT_MAX_LIFETIME,
        rotation_grace: Duration = 0,
        retention: Duration = DEFAULT_RETENTION,
        max_sessions_per_user: int | None = None,
        at_cap: AtCap = "refuse",
        on_replay: OnReplay = "report",
        sweep_interval: Duration | None = 60.0,
        on_end: EndHook | None = None,
        options: StoreOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare a manager; nothing is opened yet.

        Args:
            store: an address (`sqlite:///…`, `postgresql://…`, a bare path), the two of a move (`TwoStores`), a
                ready-made store, or `None` for what the environment names (`DATABASE_URL`, `HOLDFAST_SQLITE_PATH`).
            session_ttl_hours: from creation to the first `expires_at`, in hours.
            idle_timeout: limit since the last activity, in seconds or as a `timedelta`; `None` for none.
            max_lifetime: no extension passes creation plus this; `None` for no cap. At least the lifetime.
            rotation_grace: how long a rotated token's predecessor still validates; at most 30 seconds.
            retention: how long an ended session is kept for `why_ended` before the sweep deletes it.
            max_sessions_per_user: how many live sessions a user may have at any instant; `None` for no cap.
            at_cap: at the cap `refuse` a create (`TooManySessions`), or `evict` the user's oldest sessions.
            on_replay: when a token is used that rotation has replaced, and whose successor was used: `report` it to
                the log, or also `end` its session.
            sweep_interval: seconds between two sweeps of this process; `None` when another process sweeps.
            on_end: called at least once for every end of a session in this store; a call that takes longer than ten
                seconds is given up and made again later. It must not block the event loop.
            options: how a store made from an address behaves (schema, deadline, connections).
            clock: for tests only; see `holdfast.testing`.

        Raises `InvalidArgument` for a bad value.
        """
        lifetime = duration(session_ttl_hours, "session_ttl_hours", unit=timedelta(hours=1))
        cap = None if max_lifetime is None else duration(max_lifetime, "max_lifetime")
        if cap == DEFAULT_MAX_LIFETIME:
            # A longer lifetime than the default cap is a wish for a longer cap, not a contradiction.
            cap = max(cap, lifetime)
        self.policy = Policy(
            lifetime=lifetime,
            idle_timeout=None if idle_timeout is None else duration(idle_timeout, "idle_timeout"),
            max_lifetime=cap,
            rotation_grace=duration(rotation_grace, "rotation_grace", allow_zero=True),
            retention=duration(retention, "retention", allow_zero=True),
            max_sessions=max_sessions_per_user,
            at_cap=at_cap,
        )
        if on_replay not in get_args(OnReplay):
            raise InvalidArgument(f"on_replay is one of {', '.join(get_args(OnReplay))}")
        self.clock = clock or Clock()
        self.counts = Counts()
        self.observer: Observer = NOBODY
        self.watches = Watches(self.clock, lambda: self.store)
        self.ends = Ends(on_end, self.watches.over)
        self.replays = Replays(on_replay, lambda id: self._end(id, "revoked"))
        self._store = self._made(store, options)
        self._open = False
        self._opening_or_closing = asyncio.Lock()
        interval = None if sweep_interval is None else duration(sweep_interval, "sweep_interval").total_seconds()
        self._sweeper = None if interval is None else Sweeper(self, interval)

    def _made(self, store: "Store | str | os.PathLike[str] | TwoStores | None", options: StoreOptions | None) -> Store:
        if store is None or isinstance(store, str | os.PathLike | TwoStores):
            return type(self).open_store(store, options or StoreOptions())
        if options is not None:
            raise InvalidArgument("options go with an address; a ready-made store has its own")
        return store

    # From outside

    def observe(self, observer: Observer) -> None:
        """Tell an observer what happens, instead of any other one. Call it before `open`."""
        self.observer = self.ends.observer = Guarded(observer)
        if isinstance(self._store, Observed):
            self._store.observer = self.observer

    def load(self) -> Load | None:
        """What the store has in hand now; `None` while it is not open, and for a store that does not say."""
        return self._store.load() if self._open and isinstance(self._store, Observed) else None

    # Life cycle

    async def open(self) -> None:
        """Open the store and begin to sweep. Safe to repeat.

        Raises `StoreUnavailable` when the store cannot be reached, and `StoreRefused` when it must not be used as it
        is; either way nothing is left open and the call may be repeated.
        """
        async with self._opening_or_closing:
            if self._open:
                return
            await self._store.open(self.policy, self.clock)
            if self.ends.hook is not None:
                try:
                    await self._store.expect_hooks()
                except BaseException:
                    await self._store.close()
                    raise
            self._open = True
            if self._sweeper is not None:
                self._sweeper.start()

    async def close(self) -> None:
        """Stop sweeping, finish what was accepted, and close the store. Safe to repeat; it can be opened again.

        New calls are refused from the beginning, those of the end hook too. The hook is waited for, but a hook that
        takes longer than ten seconds is left: what it was not told stays in the store, for a later sweep.
        """
        async with self._opening_or_closing:
            if not self._open:
                return
            self._open = False
            try:
                if self._sweeper is not None:
                    await self._sweeper.stop()
                await self.replays.close()
                await self.ends.close()
                await self.watches.close()
            finally:
                # Cancelled while it waits, it lets go of the store all the same: nobody else would.
                await self._store.close()

    async def __aenter__(self) -> Self:
        """Open, see `open`."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, see `close`."""
        await self.close()

    @property
    def store(self) -> Store:
        """The open store. Raises `StoreUnavailable` before `open` and after `close`."""
        if not self._open:
            raise StoreUnavailable("the session manager is not open yet, or not any more; see `open`")
        return self._store

    async def ping(self) -> datetime:
        """The store's clock (aware, UTC): proves that the store takes writes now. Raises `StoreUnavailable` if not."""
        return await self.store.ping()

    # With a token

    async def create_session(self, user_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> NewSession:
        """Begin a session; answers token and `expires_at`, and the id beside them.

        The token is shown this once. Raises `InvalidArgument` when the user id or the metadata break a limit, and
        `TooManySessions` at the user's cap, unless the policy evicts. The metadata may be any mapping; objects within
        it are dicts.
        """
        token = new_token()
        user = None if user_id is None else checked_user_id(user_id)
        new = NewRecord(new_id(), self._digest_of_new(token), user, metadata_rules.canonical(plain(metadata)))
        if user is None or self.policy.max_sessions is None:
            record = await self.store.create(new)
        else:
            record = await self._create_capped(new)
        self.counts.created += 1
        return NewSession(str(record.id), token, record.expires_at)

    async def _create_capped(self, new: NewRecord) -> Record:
        store = self.store
        made: list[Record] = []

        async def call() -> Sequence[End]:
            created = await store.create_capped(new)
            made.append(created.record)
            return created.evicted

        await self.ends.made(store, call)
        return made[0]

    async def validate_session(self, token: str) -> Session | None:
        """Check a token and record the activity, durably, in one statement; `None` when it opens nothing.

        The count in the answer includes this call. After `OutcomeUnknown` the activity may have been counted.
        """
        digest = self._digest_of(token)
        if digest is None:
            self.counts.malformed += 1
            log.debug("a token was refused: malformed")
            return None
        store = self.store
        record = await store.touch(digest)
        if record is None:
            self.counts.not_live += 1
            log.debug("a token was refused: no live session has it")
            self.replays.suspect(store, digest)
            return None
        self.counts.validated += 1
        return Session.of(record)

    async def get_session(self, token: str) -> Session | None:
        """The session that a token opens, or `None`; touches nothing."""
        return await self._get(self._digest_of(token))

    async def delete_session(self, token: str) -> bool:
        """End the session (`revoked`); whether there was a live one. Safe to repeat.

        After `OutcomeUnknown` watches and hook hear of the end later, if it was made: a watch within seconds, at the
        next look at its session, the hook at a later sweep. `end_session`, which has the id to ask
        for, tells them at once.
        """
        return await self._end(self._digest_of(token), "revoked")

    async def extend_session(self, token: str, hours: float = 24) -> datetime | None:
        """Move the expiry to the later of today's and now + `hours`, never past `created_at + max_lifetime`.

        Answers the resulting `expires_at`; `None` when not live. Safe to repeat.
        """
        return await self._extend(self._digest_of(token), hours)

    async def rotate_session(self, token: str) -> NewSession | None:
        """Give the session a new token; id and expiry stay, and so do its open sockets. `None` when not live.

        The old token is dead when the call returns, but for the policy's grace. Of parallel rotations one succeeds.
        """
        digest = self._digest_of(token)
        if digest is None:
            return None
        successor = new_token()
        record = await self.store.rotate(digest, self._digest_of_new(successor))
        return None if record is None else NewSession(str(record.id), successor, record.expires_at)

    async def update_metadata(self, token: str, changes: Mapping[str, Any]) -> Session | None:
        """Merge changes into the metadata after RFC 7396; the updated session, or `None` when not live.

        A null removes a key. Parallel updates never overwrite each other: a lost race is merged again, with two more
        store calls; after 100 lost races it raises `Overloaded`, having changed nothing. The limits of metadata apply
        to the result; raises `InvalidArgument`, changing nothing, when it breaks one. Safe to repeat.
        """
        return await self._merge(self._digest_of(token), changes)

    async def why_ended(self, token: str) -> WhyEnded | None:
        """Why a token opens nothing; `None` while its session is live.

        `unknown` when the store has no trace of it, as for every string that is not a token, and for sessions that
        ended longer ago than the retention. Do not show the difference to the client.
        """
        digest = self._digest_of(token)
        return "unknown" if digest is None else await self.store.why(digest)

    def watch(self, token: str) -> AbstractAsyncContextManager[Watch]:
        """Listen for the end of the session that a token opens.

            async with sessions.watch(token) as watch:
                end = await watch.wait()     # End(id, user_id, reason, ended_at)

        Rotation does not disturb it. It hears of an end in this process or any other, and of the session's own
        expiry, within a second; within ten when the push channel of PostgreSQL is down (see `watches.channel`).
        """
        return Watch(self, self._digest_of(token))

    async def create_ticket(self, token: str, origin: str | None = None) -> tuple[str, datetime] | None:
        """A one-time ticket for a WebSocket handshake, valid 30 seconds, and when it expires; `None` when not live.

        It is bound to the session and to the `Origin` header the handshake must carry (`None`: must not carry one).
        """
        session = self._digest_of(token)
        if not may_bind(origin):
            raise InvalidArgument(
                f"an origin is a string of 1 to {MAX_ORIGIN} characters, without NUL and lone surrogates"
            )
        if session is None:
            return None
        ticket = new_ticket()
        expires_at = await self.store.create_ticket(digest_of_new(ticket), session, origin)
        return None if expires_at is None else (ticket, expires_at)

    async def redeem_ticket(self, ticket: str, origin: str | None = None) -> Session | None:
        """Use a ticket up and answer its live session; `None` for a ticket that is not good (any more).

        Two store calls: when the second one fails the ticket is used up, and the client needs another one.
        """
        digest = ticket_digest_of(ticket)
        if digest is None:
            return None
        # No ticket is bound to the empty origin: it stands for all that none can be bound to, and no store can hold.
        store = self.store
        session_id = await store.take_ticket(digest, origin if may_bind(origin) else "")
        record = None if session_id is None else await store.get(session_id)
        return None if record is None else Session.of(record)

    # With an id: for operators, and for a user's own device list

    async def get_by_id(self, id: str) -> Session | None:
        """A live session by its public id, or `None`; touches nothing."""
        return await self._get(parse_id(id))

    async def validate_by_id(self, id: str) -> Session | None:
        """As `validate_session`, by public id: for a connection whose credential was checked when it was opened.

        An id opens nothing by itself: never take one from a client as proof of anything.
        """
        key = parse_id(id)
        record = None if key is None else await self.store.touch(key)
        if record is None:
            self.counts.not_live += 1
            log.debug("an id was refused: no live session has it")
            return None
        self.counts.validated += 1
        return Session.of(record)

    async def extend_by_id(self, id: str, hours: float) -> datetime | None:
        """As `extend_session`, by public id."""
        return await self._extend(parse_id(id), hours)

    async def update_metadata_by_id(self, id: str, changes: Mapping[str, Any]) -> Session | None:
        """As `update_metadata`, by public id."""
        return await self._merge(parse_id(id), changes)

    async def end_session(self, id: str, reason: EndReason = "revoked") -> bool:
        """End a session by its public id; whether there was a live one. Safe to repeat.

        Before `OutcomeUnknown` is raised, a second store call asks whether the session ended, for watches and hook.
        """
        return await self._end(parse_id(id), checked_reason(reason))

    async def list_sessions(
        self, user_id: str | None = None, limit: int = 100, after: str | None = None
    ) -> list[Session]:
        """Live sessions, oldest first, of one user or of all: at most `limit` (1 to 1000) whose id follows `after`.

        The id of the last one is the `after` of the next page. Raises `InvalidArgument` for a bad limit or id.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument(f"limit is a whole number from 1 to {MAX_PAGE}")
        start = None if after is None else parse_id(after)
        if after is not None and start is None:
            raise InvalidArgument("after is the id of a session, from the page before")
        user = None if user_id is None else checked_user_id(user_id)
        return [Session.of(record) for record in await self.store.list_live(user, limit, start)]

    # For whole users, and for everything

    async def revoke_user_sessions(self, user_id: str, keep: str | None = None) -> int:
        """End all live sessions of a user but the one with the id `keep`; how many that were.

        It covers every session whose create committed before it; one created after it lives. Safe to repeat. After
        `OutcomeUnknown` watches and hook hear of the ends later, as after `delete_session`.
        """
        return await self._end_user(self.store, user_id, keep)

    async def _end_user(self, store: Store, user_id: str, keep: str | None) -> int:
        kept = None if keep is None else parse_id(keep)
        if keep is not None and kept is None:
            # To go on would revoke the very session that the caller wants to keep.
            raise InvalidArgument("keep is the id of a session")
        user = checked_user_id(user_id)
        return len(await self.ends.made(store, lambda: store.end_user(user, kept, "revoked")))

    async def erase_user(self, user_id: str) -> int:
        """Delete everything held about a user; how many sessions, live or ended, that were. Safe to repeat.

        The live ones end first, and the end hook hears of that; the rows go even if the hook fails, or takes longer
        than ten seconds. Two store calls: when the second one fails the sessions have ended and their rows are there.
        """
        store = self.store
        await self._end_user(store, user_id, None)
        await self.ends.finish()
        return await store.erase_user(user_id)

    async def cleanup_expired_sessions(self) -> int:
        """Remove every expired session now; how many. The sweep is the gentle form.

        While an end hook is expected, another process's as well as this one's, an end that none has heard of yet is
        kept and not counted: a later call or sweep removes it. Many store calls; after an error, call it again.
        """
        return await clean_up(self)

    async def sweep(self) -> Swept:
        """One pass of the sweep now, for applications that schedule it themselves. Safe at any time, on any server.

        Many store calls; after an error the next pass goes on.
        """
        return await sweep(self)

    async def get_active_session_count(self) -> int:
        """How many sessions are live. Exact: it counts, so it is not for every request."""
        return await self.store.count_live()

    # What token and id have in common

    def _digest_of(self, token: str) -> TokenDigest | None:
        return digest_for(self._store, token)

    def _digest_of_new(self, token: str) -> TokenDigest:
        return digest_of_new_for(self._store, token)

    async def _get(self, key: Key | None) -> Session | None:
        record = None if key is None else await self.store.get(key)
        return None if record is None else Session.of(record)

    async def _extend(self, key: Key | None, hours: float) -> datetime | None:
        by = self.policy.extension(hours)
        return None if key is None else await self.store.extend(key, by)

    async def _end(self, key: Key | None, reason: EndReason) -> bool:
        if key is None:
            return False
        store = self.store

        async def call() -> Sequence[End]:
            end = await store.end(key, reason)
            return () if end is None else (end,)

        # A digest has no cheap way to the id of a session that may have ended.
        doubted = (key, reason) if isinstance(key, UUID) else None
        return bool(await self.ends.made(store, call, doubted))

    async def _merge(self, key: Key | None, changes: Mapping[str, Any]) -> Session | None:
        record = await merge_metadata(lambda: self.store, key, changes)
        return None if record is None else Session.of(record)
