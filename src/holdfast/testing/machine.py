"""Random histories: hypothesis calls a store, and a model in plain values says what it should have answered.

The clock moves by whole minutes: a session is at least a minute away from its end or past it, so that neither the
real time that a run takes nor the resolution of a database's clock decides anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import END_REASONS, EndReason, NewSession, Session
from holdfast.sessions.store import Store
from holdfast.sessions.tokens import new_token
from holdfast.testing.clock import MovableClock
from holdfast.testing.model import CAP, IDLE, LIFETIME, RETENTION, ModelSession, merged

StoreFactory = Callable[[], Awaitable[Store]]
"""Gives a fresh, empty, unopened store."""

Answer = TypeVar("Answer")

USERS = ["u1", "u2", "U1"]
EXTENSIONS = [0.5, 30, 60, 61, 90, 149, 150, 151, 10_000]
"""In minutes. None reaches the very minute in which the idle timeout of an earlier activity is over: which of the two
limits comes first would then depend on the real time that a run takes."""

users = st.sampled_from(USERS)
values = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
    | st.just([1, {"a": None}])
)
objects = st.recursive(
    st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), values | inner, max_size=3),
    max_leaves=4,
)


class SessionMachine(RuleBasedStateMachine):
    """One store, one manager, one model. Derive a class that sets `new_store`, or call `run_machine`."""

    new_store: ClassVar[StoreFactory]

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        """Prepare the event loop and the model; the store is opened by the first step."""
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovableClock()
        self.now = 0
        self.rows: list[ModelSession] = []

    @initialize()
    def open(self) -> None:
        """Open a fresh store."""
        self.manager = self.runner.run(self._opened())

    async def _opened(self) -> SessionManager:
        manager = SessionManager(
            await type(self).new_store(),
            session_ttl_hours=LIFETIME / 60,
            idle_timeout=timedelta(minutes=IDLE),
            max_lifetime=timedelta(minutes=CAP),
            retention=timedelta(minutes=RETENTION),
            sweep_interval=None,
            clock=self.clock,
        )
        await manager.open()
        return manager

    def teardown(self) -> None:
        """Close the store and the loop, whatever happened."""
        if hasattr(self, "manager"):
            self.runner.run(self.manager.close())
        self.runner.close()

    # Sessions begin

    @rule(target=tokens, user=st.none() | users, metadata=objects)
    def create(self, user: str | None, metadata: dict[str, Any]) -> str:
        """A new session is live, and is the caller's."""
        new = self.run(self.manager.create_session(user, metadata))
        assert not any(row.id == new.id or new.token in (row.token, *row.past) for row in self.rows)
        self.rows.append(ModelSession(new.id, user, metadata, self.now, self.now + LIFETIME, self.now, new.token))
        return new.token

    @rule(target=tokens, token=tokens)
    def rotate(self, token: str) -> Any:
        """A live session gets a new token and stays itself."""
        row = self.live(token)
        new: NewSession | None = self.run(self.manager.rotate_session(token))
        if row is None:
            assert new is None
            return multiple()
        assert new is not None
        assert new.id == row.id
        assert new.token not in (row.token, *row.past)
        row.past.append(row.token)
        row.predecessor, row.token = row.token, new.token
        return new.token

    @rule(target=tokens)
    def invent(self) -> str:
        """A token that nobody issued is used like any other from here on."""
        return new_token()

    # Sessions are used

    @rule(token=tokens)
    def validate(self, token: str) -> None:
        """Validating counts, and moves the activity."""
        row = self.live(token)
        if row is not None:
            row.count += 1
            row.active = self.now
        self.same(self.run(self.manager.validate_session(token)), row)

    @rule(token=tokens)
    def get(self, token: str) -> None:
        """Getting answers the same by token and by id."""
        row = self.live(token)
        session = self.run(self.manager.get_session(token))
        self.same(session, row)
        if row is not None:
            assert self.run(self.manager.get_by_id(row.id)) == session

    @rule(token=tokens, minutes=st.sampled_from(EXTENSIONS))
    def extend(self, token: str, minutes: float) -> None:
        """Extending moves the expiry forward, up to the cap."""
        row = self.live(token)
        expires_at = self.run(self.manager.extend_session(token, minutes / 60))
        assert (expires_at is None) == (row is None)
        if row is not None:
            row.expires = max(row.expires, min(self.now + minutes, row.created + CAP))
            session = self.run(self.manager.get_session(token))
            self.same(session, row)
            assert session is not None
            assert session.expires_at == expires_at

    @rule(token=tokens, changes=objects)
    def update(self, token: str, changes: dict[str, Any]) -> None:
        """Changes are merged, and touch nothing else."""
        row = self.live(token)
        if row is not None:
            row.metadata = merged(row.metadata, changes)
        self.same(self.run(self.manager.update_metadata(token, changes)), row)

    @rule(token=tokens)
    def why(self, token: str) -> None:
        """A token that opens nothing says why."""
        answer = self.run(self.manager.why_ended(token))
        for row in self.rows:
            if token == row.token:
                assert answer == (None if row.is_live(self.now) else row.end_of())
                return
            if token == row.predecessor:
                assert answer == "replaced"
                return
            if token in row.past:
                # A store may remember more than the direct predecessor, and need not.
                assert answer in ("replaced", "unknown")
                return
        assert answer == "unknown"

    @rule(user=st.none() | users, limit=st.sampled_from([1, 2, 3, 1000]))
    def list_pages(self, user: str | None, limit: int) -> None:
        """The pages together are the live sessions, each one whole, in order of id."""
        found: list[Session] = []
        while page := self.run(self.manager.list_sessions(user, limit, found[-1].id if found else None)):
            assert len(page) <= limit
            # A page that does not move on would be followed by itself for ever.
            assert not found or page[0].id > found[-1].id
            found += page
        expected = sorted(
            (row for row in self.rows if row.is_live(self.now) and user in (None, row.user)),
            key=lambda row: row.id,
        )
        assert [session.id for session in found] == [row.id for row in expected]
        for session, row in zip(found, expected, strict=True):
            self.same(session, row)

    # Sessions end

    @rule(token=tokens)
    def delete(self, token: str) -> None:
        """Deleting ends what is live."""
        row = self.live(token)
        assert self.run(self.manager.delete_session(token)) is (row is not None)
        if row is not None:
            row.reason, row.ended = "revoked", self.now

    @rule(token=tokens, reason=st.sampled_from(END_REASONS))
    def end(self, token: str, reason: EndReason) -> None:
        """An operator ends a session by its id, with any of its tokens gone or not."""
        row = next((row for row in self.rows if token in (row.token, *row.past)), None)
        if row is not None:
            live = row.is_live(self.now)
            assert self.run(self.manager.end_session(row.id, reason)) is live
            if live:
                row.reason, row.ended = reason, self.now

    @rule(user=users, keep=st.none() | tokens)
    def revoke(self, user: str, keep: str | None) -> None:
        """All live sessions of a user end, but the one to keep."""
        kept = next((row.id for row in self.rows if row.token == keep), None)
        gone = [row for row in self.rows if row.user == user and row.is_live(self.now) and row.id != kept]
        assert self.run(self.manager.revoke_user_sessions(user, keep=kept)) == len(gone)
        for row in gone:
            row.reason, row.ended = "revoked", self.now

    @rule(user=users)
    def erase(self, user: str) -> None:
        """Every row of a user goes."""
        gone = [row for row in self.rows if row.user == user]
        assert self.run(self.manager.erase_user(user)) == len(gone)
        self.rows = [row for row in self.rows if row.user != user]

    # Time passes

    @precondition(lambda self: self.rows)
    @rule(minutes=st.sampled_from([1, 5, 24, 25, 26, 59, 60, 200]))
    def advance(self, minutes: int) -> None:
        """Time moves by whole minutes."""
        self.now += minutes
        self.clock.advance(timedelta(minutes=minutes))

    @rule()
    def sweep(self) -> None:
        """The sweep marks what ran out, and deletes what was kept long enough."""
        due = [row for row in self.rows if row.reason is None and not row.is_live(self.now)]
        for row in due:
            # Its retention begins when its end is noted, not when it ran out.
            row.reason, row.ended = row.end_of(), self.now
        kept = [row for row in self.rows if row.reason is None or self.now - row.ended < RETENTION]
        assert self.run(self.manager.sweep()) == (len(due), len(self.rows) - len(kept))
        self.rows = kept

    @rule()
    def clean_up(self) -> None:
        """What ran out is removed, whenever that was."""
        kept = [row for row in self.rows if row.is_live(self.now) or row.end_of() not in ("expired", "idle")]
        assert self.run(self.manager.cleanup_expired_sessions()) == len(self.rows) - len(kept)
        self.rows = kept

    @invariant()
    def count_is_exact(self) -> None:
        """At every moment the count is the number of live sessions."""
        if hasattr(self, "manager"):
            assert self.run(self.manager.get_active_session_count()) == sum(row.is_live(self.now) for row in self.rows)

    # Against the model

    def live(self, token: str) -> ModelSession | None:
        """The session that a token opens."""
        return next((row for row in self.rows if row.token == token and row.is_live(self.now)), None)

    def same(self, session: Session | None, row: ModelSession | None) -> None:
        """Compare an answer with the model."""
        assert (session is None) == (row is None)
        if session is not None and row is not None:
            row.check(session)

    def run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """One call in the loop of this run."""
        return self.runner.run(call)


def run_machine(new_store: StoreFactory, examples: int = 50, steps: int = 40) -> None:
    """Drive stores through random histories, `examples` of at most `steps` calls; raises at a difference."""
    machine = type("Machine", (SessionMachine,), {"new_store": staticmethod(new_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            # A database may take its time, and its clock goes on between two runs of one history.
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
