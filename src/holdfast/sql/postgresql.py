"""PostgreSQL: what only it needs, each with its reason.

Touches and creates are joined and run on connections of their own, so that a flood of them cannot delay a revoke,
and a slow listing cannot delay a touch. Touches by token and by id are joined apart, because they look rows up by
different indexes. Everything else is a plain call.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import HoldfastError, InvalidArgument, OutcomeUnknown, Overloaded, StoreUnavailable
from holdfast.sessions.observer import Load
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record
from holdfast.sessions.store import Channel, Hint, Key, StoreOptions
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, parse_address
from holdfast.sql.batches import Joined, JoinedTouch, joined_create, joined_touch
from holdfast.sql.calls import Answer, Calls, Reading, Writing, discard
from holdfast.sql.connections import Connections, connect_arguments, for_this_transaction, promised
from holdfast.sql.dialect import DRIVER, ISOLATION
from holdfast.sql.failures import Kind, LockedOut, NotDone, Unknown, is_locked_out, kind_of
from holdfast.sql.joiner import Batch, Joiner
from holdfast.sql.keeping import keeping, token_of
from holdfast.sql.listener import Listener, channel_of
from holdfast.sql.presence import Noting
from holdfast.sql.store import SqlStore
from holdfast.sql.tables import tables
from holdfast.sql.teller import Teller

_LANES_EACH: Final = 2
_LANES: Final = 3 * _LANES_EACH
# Connections for what sockets depend on: looking whether sessions live, and telling other servers of ends.
_LOOKS: Final = 2
# The joined statements look rows up one by one by a unique index, always: no statistics, and no lack of them after
# the first million inserts, may talk the planner into anything else, and it need not think about it each time.
_LANE_SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
    # Our own locks last for milliseconds. Whoever waits this long has met a stranger's, and keeps others waiting.
    "lock_timeout": "500",
}
# What settling writes may be lost, so it waits for no disk and no standby; and hardly for a lock on the table.
_SETTLE_SETTINGS: Final = {"synchronous_commit": "off", "lock_timeout": "100"}
# How long after a row was found locked the touches pass over such rows at once.
_SKIPPING_SECONDS: Final = 2.0
_POOL_SECONDS: Final = 2.0

log = logging.getLogger("holdfast.sql")


class _Lane:
    """A connection for one batch at a time, kept as long as it works."""

    connection: AsyncConnection | None = None
    driver: Any = None


class PostgresqlStore(SqlStore):
    """The store contract on PostgreSQL."""

    def __init__(self, address: PostgresqlAddress, options: StoreOptions) -> None:
        """Prepare a store; connects to nothing yet."""
        super().__init__(tables(options.schema), follows=options.follows)
        self._address = address
        self._options = options
        self._pooled = options.pooled or address.pooled
        self._where = f"PostgreSQL at {address}"
        self._lanes: list[_Lane] = []
        self._skipping_until = 0.0
        self._listener = _listener(address, options, self._pooled)
        self._engine: AsyncEngine | None = None

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`."""
        statements = self._prepare(policy, clock)
        if self._options.upgrade:
            await schema.upgrade(self._address, self._options)
        deadline = self._options.deadline
        self._engine = _engine(self._address, self._options, self._pooled)
        self._connections = Connections(self._engine)
        self._calls, self._looks = (
            Calls(
                self._engine,
                connections=connections,
                where=self._where,
                deadline=deadline,
                in_transaction=self._pooled,
                kinds=kinds,
                observer=self.observer,
            )
            for connections, kinds in ((self._options.connections, ("read", "write")), (_LOOKS, ("look", "tell")))
        )
        # Seldom and short, so it has no connection of its own; and it is nobody's call, so nobody counts it.
        self._notes = Calls(self._engine, connections=1, where=self._where, deadline=deadline)
        self._joined_create = joined_create(self._tables, statements, policy)
        self._lanes = [_Lane() for _ in range(_LANES)]
        lanes = [self._lanes[start : start + _LANES_EACH] for start in range(0, _LANES, _LANES_EACH)]
        common: dict[str, Any] = {"where": self._where, "deadline": deadline, "observer": self.observer}
        touches = [joined_touch(self._tables, statements, policy, by_id=by_id) for by_id in (False, True)]
        self._touches, self._touches_by_id = (
            Joiner[_Lane, Key, Record | None](
                partial(self._send_touches, touches[by_id]),
                lanes[by_id],
                repeatable=False,
                kind="touch_by_id" if by_id else "touch",
                **common,
            )
            for by_id in (False, True)
        )
        self._creates = Joiner[_Lane, NewRecord, Record](
            self._send_creates, lanes[2], repeatable=True, kind="create", **common
        )
        self._teller = Teller(self._send_hint)
        self._ticket_turns = asyncio.Semaphore(max(1, self._options.connections // 2))
        try:
            # The handshake alone is several round trips. As a call of its own it leaves the next one all its time.
            await self._calls.read(lambda _: None)
            await self._calls.read(lambda connection: schema.refuse_other_tables(connection, self._tables))
            await self._look_around()
            if self._options.follows:
                await self._rehearse(touches, lanes)
        except BaseException:
            await self.close()
            raise
        self._be_present(self._where)

    async def _look_around(self) -> None:
        """All that an opening asks of tables that are ours, in one statement: each costs a slow line's round trips."""
        authority = self._sql.authority.with_only_columns(self._tables.control.c.authority).scalar_subquery()
        statement = self._sql.ping_postgresql.add_columns(
            schema.replication_role().label("role"),
            self._sql.any_clear_token.scalar_subquery().label("has_clear_tokens"),
            authority.label("authority"),
        )
        values = self._bind()
        row = await self._calls.read(lambda connection: connection.execute(statement, values).one())
        schema.refuse_replica(row.role)
        if row.authority != "here":
            await self._refuse_left()
        self.has_clear_tokens = row.has_clear_tokens
        self._require_writable(row.read_only)

    async def _rehearse(self, touches: Sequence[JoinedTouch], lanes: Sequence[Sequence[_Lane]]) -> None:
        """Connect the lanes and let each plan its statement, for nobody's call.

        When the authority comes here, the writes that waited for it shall not wait for that as well. A store that does
        not accept writes refuses even these, once it has planned them.
        """
        nothing: dict[str, Any] = {"keys": [], "activities": [], "limit": 0, "offset": self._clock.offset}
        nothing |= {"ids": [], "digests": [], "user_ids": [], "texts": []}

        async def rehearse(lane: _Lane, joined: Joined) -> None:
            try:
                await self._fetch(lane, await self._ready(lane), joined, **nothing)
            except (NotDone, Unknown) as failure:
                # Connected and planned at need, then: the store is open without it.
                log.debug("%s: a lane was not rehearsed: %s", self._where, type(failure.cause).__name__)

        joined = [*(touch.waiting for touch in touches), self._joined_create]
        await asyncio.gather(*(rehearse(lane, each) for each, some in zip(joined, lanes, strict=True) for lane in some))

    async def close(self) -> None:
        """See `Store`."""
        if self._engine is None:
            return
        await self._be_gone()
        closing = asyncio.create_task(self._finish())
        # Every caller has an answer by its deadline; what goes on after that waits for a server that is silent.
        await asyncio.wait((closing,), timeout=self._options.deadline)
        if not closing.done():
            self._connections.cut()
        await closing
        for lane in self._lanes:
            if lane.connection is not None:
                await lane.connection.close()
                lane.connection = lane.driver = None
        await self._connections.dispose()
        self._engine = None
        self._statements = None

    async def _finish(self) -> None:
        await self._touches.close()
        await self._touches_by_id.close()
        await self._creates.close()
        await self._teller.close()
        await self._notes.close()
        await self._calls.close()
        await self._looks.close()

    def load(self) -> Load | None:
        """See `SqlStore`."""
        if self._engine is None:
            return None
        joiners: tuple[Joiner[Any, Any, Any], ...] = (self._touches, self._touches_by_id, self._creates)
        pool = cast("AsyncAdaptedQueuePool", self._engine.pool)
        return Load(
            sum(each.queued for each in joiners),
            sum(each.in_flight for each in joiners),
            pool.size(),
            pool.checkedout(),
        )

    async def ping(self) -> datetime:
        """See `Store`. A server that is read-only now, such as a standby, is no use: its connections are dropped."""
        statement, values = self._sql.ping_postgresql, self._bind()
        row = await self._calls.read(lambda connection: connection.execute(statement, values).one())
        self._require_writable(row.read_only)
        now: datetime = row.now
        return now

    def _require_writable(self, read_only: str) -> None:
        if read_only != "off":
            self._drop_pool()
            raise StoreUnavailable(f"{self._where} is read-only: a standby, or no longer the primary")

    def touch(self, key: Key) -> Coroutine[Any, Any, Record | None]:
        """See `Store`."""
        return (self._touches_by_id if isinstance(key, UUID) else self._touches).call(key)

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        return await self._creates.call(record)

    async def keep_token(self, digest: bytes) -> None:
        """Keep a token in clear if a move has asked for that and it is known, see `keeping`. Safe to repeat."""
        if (token := token_of(digest)) is not None:
            await self._calls.write(keeping(self._options.schema, digest, token))

    async def _read(self, reading: Reading[Answer]) -> Answer:
        return await self._calls.read(reading)

    async def _look(self, reading: Reading[Answer]) -> Answer:
        return await self._looks.read(reading)

    async def _look_settling(self, ids: Sequence[UUID], reading: Reading[Answer]) -> tuple[Sequence[UUID], Answer]:
        """See `SqlStore`. For milliseconds it waits for a table that a move is closing, and not for a row."""
        statement, values = self._sql.settle, self._bind(ids=list(ids))

        def settling(connection: Connection, _: bool) -> tuple[Sequence[UUID], Answer]:
            connection.exec_driver_sql(for_this_transaction(_SETTLE_SETTINGS)).close()
            try:
                settled = connection.scalars(statement, values).all()
            except DBAPIError as error:
                if kind_of(error) is Kind.RETRY:
                    # Whoever asks does so again: waiting here would keep a connection from all other looks.
                    raise NotDone(Kind.FULL, error) from error
                raise
            return settled, reading(connection)

        return await self._looks.write(settling)

    async def _write(self, writing: Writing[Answer]) -> Answer:
        return await self._calls.write(writing)

    async def _note(self, noting: Noting) -> None:
        await self._notes.write(lambda connection, _: noting(connection))

    def _lock_user(self, connection: Connection, user_id: str) -> None:
        # A statement of its own: the next one then sees what was committed while this one waited.
        connection.execute(self._sql.lock_user, {"user": user_id})

    # Telling other servers, and hearing of them

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        end = await super().end(key, reason)
        self._teller.tell(() if end is None else (end,))
        return end

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        ends = await super().end_user(user_id, keep, reason)
        self._teller.tell(ends)
        return ends

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`. Anyone can make tickets up: together they get a part of the connections, log-outs the rest."""
        try:
            async with asyncio.timeout(_POOL_SECONDS):
                await self._ticket_turns.acquire()
        except TimeoutError:
            raise Overloaded(f"too many tickets are tried at once with {self._where}; try again in a moment") from None
        try:
            return await super().take_ticket(digest, origin)
        finally:
            self._ticket_turns.release()

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        created = await super().create_capped(record)
        self._teller.tell(created.evicted)
        return created

    async def _send_hint(self, hint: str) -> None:
        statement, values = self._sql.tell, {"channel": channel_of(self._options.schema), "hint": hint}
        await self._looks.write(lambda connection, _: connection.execute(statement, values).close())

    @property
    def channel(self) -> Channel:
        """See `Store`."""
        return "push" if self._listener is not None and self._listener.connected else "polling"

    async def listen(self, hint: Hint) -> None:
        """See `Store`. Behind a pooler, unless there is an address past it, there is nothing to hear."""
        if self._listener is None:
            log.info("behind a pooler other servers' ends are found by asking; HOLDFAST_LISTEN_URL leads past it")
            await asyncio.get_running_loop().create_future()
        else:
            await self._listener.run(hint)

    # The joined calls

    async def _send_touches(
        self, touch: JoinedTouch, lane: _Lane, batch: Batch[Key, Record | None]
    ) -> Sequence[Record | Exception | None]:
        driver = await self._ready(lane)
        if not (keys := batch.begin()):
            return []
        activities = Counter(keys)
        values = {"keys": list(activities), "activities": list(activities.values()), "limit": len(activities)}
        values |= {"key": keys[0], "activity": len(keys), "offset": self._clock.offset}
        skipping = asyncio.get_running_loop().time() < self._skipping_until
        answers: dict[Key, Record | Exception] = {}
        try:
            one = touch.single if len(activities) == 1 else touch.waiting
            joined = touch.skipping if skipping else one
            rows = await self._fetch(lane, driver, joined, **values)
        except NotDone as failure:
            if not is_locked_out(failure):
                raise
            # Somebody keeps a row locked: from now on nobody waits for it but those who need it.
            skipping = True
            rows = await self._fetch(lane, driver, touch.skipping, **values)
        answers.update([(row[0], Record._make(row[1:])) for row in rows])
        if skipping and (missing := [key for key in activities if key not in answers]):
            answers.update(await self._passed_over(touch, lane, driver, missing))
        return [answers.get(key) for key in keys]

    async def _passed_over(
        self, touch: JoinedTouch, lane: _Lane, driver: Any, keys: Sequence[Key]
    ) -> dict[Key, Exception]:
        """Which of the keys that were not touched open a live session: their rows are locked."""
        try:
            values = {"keys": keys, "limit": len(keys), "offset": self._clock.offset}
            rows = await self._fetch(lane, driver, touch.live, **values)
        except (NotDone, Unknown) as failure:
            # The touch before this was committed, without these.
            return dict.fromkeys(keys, NotDone(Kind.RETRY, failure.cause))
        if rows:
            self._skipping_until = asyncio.get_running_loop().time() + _SKIPPING_SECONDS
        return {row[0]: NotDone(Kind.RETRY, LockedOut()) for row in rows}

    async def _send_creates(self, lane: _Lane, batch: Batch[NewRecord, Record]) -> Sequence[Record | Exception]:
        driver = await self._ready(lane)
        if not (records := batch.begin()):
            return []
        rows = await self._fetch(
            lane,
            driver,
            self._joined_create,
            ids=[record.id for record in records],
            digests=[record.digest for record in records],
            user_ids=[record.user_id for record in records],
            texts=[record.metadata for record in records],
            offset=self._clock.offset,
        )
        created: dict[UUID, Record] = {row[0]: Record._make(row) for row in map(tuple, rows)}
        missing = [record.id for record in records if record.id not in created]
        if missing:
            # An earlier attempt of ours was committed although its answer was lost.
            durable, statement, values = self._sql.durable, self._sql.created, self._bind(ids=missing)

            def finding(connection: Connection, _: bool) -> Sequence[Any]:
                # That attempt may not have reached a standby yet, and this batch wrote nothing that would wait for it.
                connection.scalars(durable).one()
                return connection.execute(statement, values).all()

            try:
                earlier = await self._calls.write(finding)
            except HoldfastError as error:
                # Not to be mistaken for a failure of the batch, which is committed.
                raise Unknown(error) from error
            created |= {row.id: Record._make(row) for row in earlier}
        return [created.get(record.id) or self._gone() for record in records]

    def _gone(self) -> OutcomeUnknown:
        return OutcomeUnknown(f"{self._where}: the session was made, and erased before its answer came")

    async def _fetch(self, lane: _Lane, driver: Any, joined: Joined, **values: Any) -> Sequence[Any]:
        """The rows of a statement in a transaction of its own. Raises `NotDone` or `Unknown`, no driver's error."""
        arguments = joined.arguments(**values)
        try:
            if not self._pooled:
                return cast("Sequence[Any]", await driver.fetch(joined.text, *arguments))
            # Behind a pooler two messages may reach two servers, unless a transaction holds them together.
            async with driver.transaction(isolation="read_committed"):
                settings = promised(_server_seconds(self._options)) | _LANE_SETTINGS
                await driver.fetch(for_this_transaction(settings))
                return cast("Sequence[Any]", await driver.fetch(joined.text, *arguments))
        except Exception as error:
            kind = kind_of(error)
            if kind in (Kind.LOST, Kind.DROP, Kind.BUG):
                await self._drop(lane)
            if kind is Kind.DROP:
                self._drop_pool()
            if kind in (Kind.LOST, Kind.BUG):
                raise Unknown(error) from error
            raise NotDone(kind, error) from error

    async def _ready(self, lane: _Lane) -> Any:
        """The lane's own connection, opened at need. Raises `NotDone`: nothing was sent yet."""
        try:
            return await self._driver(lane)
        except Exception as error:
            await self._drop(lane)
            raise NotDone(kind_of(error), error) from error

    async def _driver(self, lane: _Lane) -> Any:
        """The lane's connection. One that closed while it idled is noticed here, before anything is sent."""
        if lane.driver is not None and lane.driver.is_closed():
            await self._drop(lane)
        if lane.driver is None:
            if self._engine is None:
                raise StoreUnavailable(f"{self._where} is closed")
            lane.connection = await self._engine.connect()
            driver: Any = (await lane.connection.get_raw_connection()).driver_connection
            if not self._pooled:
                await driver.execute("; ".join(f"SET {name} = {value}" for name, value in _LANE_SETTINGS.items()))
            lane.driver = driver
        return lane.driver

    async def _drop(self, lane: _Lane) -> None:
        connection, lane.connection, lane.driver = lane.connection, None, None
        if connection is not None:
            await discard(connection)

    def _drop_pool(self) -> None:
        """Let go of every connection: they lead to a server that does not take writes."""
        log.warning("%s is read-only; connecting anew to find the primary", self._where)
        self._connections.renew()


def _listener(address: PostgresqlAddress, options: StoreOptions, pooled: bool) -> Listener | None:
    """What listens for other servers' ends; `None` behind a pooler that no address leads past."""
    if options.listen is not None:
        past = parse_address(options.listen)
        if not isinstance(past, PostgresqlAddress):
            raise InvalidArgument("HOLDFAST_LISTEN_URL is the address of the same PostgreSQL database, past the pooler")
        return Listener(past, options.schema)
    return None if pooled else Listener(address, options.schema)


def _engine(address: PostgresqlAddress, options: StoreOptions, pooled: bool) -> AsyncEngine:
    """An engine whose connections have the timeouts, the durability and the time zone that the promises need."""
    server_timeout = _server_seconds(options)
    engine = create_async_engine(
        DRIVER,
        connect_args=connect_arguments(address, pooled=pooled, seconds=server_timeout),
        isolation_level=ISOLATION,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=options.connections + _LANES + _LOOKS,
        max_overflow=0,
        pool_timeout=min(_POOL_SECONDS, options.deadline),
        pool_recycle=1800,
        # A value is a user's: no error text may hold one.
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "handle_error", _mark_disconnects)
    if pooled:
        text = for_this_transaction(promised(server_timeout))
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(text).close())
    return engine


def _server_seconds(options: StoreOptions) -> float:
    """How long the server may work on one statement."""
    return max(0.5, options.deadline * 0.8)


def _mark_disconnects(context: ExceptionContext) -> None:
    """SQLAlchemy would keep a connection to a demoted primary for ever: to it, read-only is not a disconnect."""
    if kind_of(context.original_exception) in (Kind.DROP, Kind.LOST):
        context.is_disconnect = True
