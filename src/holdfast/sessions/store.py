"""The store contract: the file a store's author reads, and the suite in `holdfast.testing` checks.

Promises that hold for every method:

- *live* means: not ended, before `expires_at`, and within the idle timeout if the policy sets one, decided by the
  store's own clock (plus the offset of the clock it was opened with) inside the statement itself.
- Missing, ended and expired are answers (`None`, an empty list), never errors.
- `create` is the only method that makes a session. Every other write is conditional on a live row, so that an
  ended session never comes back, whatever races.
- When a call returns, its change is committed and survives a crash of the process.
- One call ends within the store's deadline: with its answer, with `StoreUnavailable` (nothing was done) or with
  `OutcomeUnknown` (it may have been). Driver exceptions never escape.
- A cancelled caller breaks nothing: the change is made whole or not at all, and no connection is lost.
- Two threads never share a store; any number of processes share one database.

A store whose tokens are in clear, as in an application's own table, says so by an attribute `clear_tokens = True`: then
the digests it is given have the token beside them (`tokens.ClearDigest`). All others need not have the attribute.
"""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.tokens import TokenDigest

Key = TokenDigest | UUID
"""How a session is named: by the digest of its present token, or by its id."""

Hint = Callable[[Collection[UUID] | None], None]
"""Told which sessions may have ended elsewhere; `None` when any of them may have. Never raises, never waits."""

Channel = Literal["idle", "push", "polling"]
"""How a store hears of ends that other processes make: not at all yet, by being told, or by asking now and then."""

Authority = Literal["here", "pending", "there"]
"""What a store knows of its authority: it accepts writes; it refuses them while a move decides, and what it holds is
still the truth; another store has it, and what this one holds may be old."""

FIRST_EPOCH: Final = 1
"""The epoch of a store that no move has touched."""


class Held(NamedTuple):
    """A store's authority, and the number of the change that brought it."""

    authority: Authority
    epoch: int

    @property
    def moved(self) -> bool:
        """Whether a move has ever changed it."""
        return self.epoch > FIRST_EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """What a store made from an address may be told. A store handed over ready-made has its own."""

    schema: str = "public"
    """The PostgreSQL schema that holds the tables."""
    deadline: float = 5.0
    """Seconds that one call may take, retries included."""
    connections: int = 5
    """PostgreSQL connections besides the nine that joined calls and sockets have for themselves."""
    upgrade: bool | None = None
    """Whether opening brings the schema up to date. `None` means: on SQLite yes, on PostgreSQL no."""
    pooled: bool = False
    """Whether a transaction pooler such as PgBouncer stands in front of PostgreSQL."""
    listen: str | None = None
    """An address that leads to PostgreSQL past the pooler, for hearing of other servers' ends at once.

    `None` means the store's own address; behind a pooler, which cannot pass such news on, it means polling.
    """
    strict_sqlite: bool = False
    """Whether a SQLite library with the WAL-reset race is refused instead of warned about."""
    legacy_tz: str | None = None
    """The zone, by IANA name, in whose local times an application's own SQLite table is written; `None` means this
    machine's. Of no account for other stores."""
    follows: bool = False
    """Whether the store is one of the two of a move: then it opens although the other one may hold the authority."""


@dataclass(frozen=True, slots=True)
class TwoStores:
    """The addresses of two stores between which a move takes place: whichever holds the authority serves."""

    sqlite: str | os.PathLike[str]
    postgresql: str = field(repr=False)
    """May hold a password."""
    _: KW_ONLY
    preferred: Literal["sqlite", "postgresql"] | None = None
    """Which one serves as long as no move has taken place; `None` lets neither do so while both could."""


@runtime_checkable
class Store(Protocol):
    """Where sessions are kept. Opened once by its manager, closed once; safe for any number of concurrent calls."""

    async def open(self, policy: Policy, clock: Clock) -> None:
        """Connect, check the schema, and start.

        Raises `StoreUnavailable` or `StoreRefused`, having kept nothing open.
        """

    async def close(self) -> None:
        """Finish what was accepted, then let go of every connection and thread. Safe to repeat."""

    async def ping(self) -> datetime:
        """The store's clock, offset included (aware, UTC). Proves that the store answers and is there to be written.

        Raises `StoreUnavailable` for one that does not answer or is read-only.
        """

    async def create(self, record: NewRecord) -> Record:
        """Insert a session that lives for the policy's lifetime from the store's now.

        Safe to repeat with the same record: an id and digest already there are the earlier attempt's success.
        """

    async def create_capped(self, record: NewRecord) -> Created:
        """As `create`, for a user under the policy's cap: at no instant has the user more live sessions than that.

        At the cap it raises `TooManySessions`, having changed nothing, or ends the user's oldest sessions
        (`evicted`) in the same transaction. Safe to repeat with the same record.
        """

    async def touch(self, key: Key) -> Record | None:
        """Count one activity of a live session and move `last_activity` forward, never back.

        `None` when not live. The answer includes this activity, and may include others made at the same time. Within
        the policy's rotation grace the direct predecessor's digest counts too. Not safe to repeat after
        `OutcomeUnknown` where the count must stay exact; a store never repeats it by itself.
        """

    async def get(self, key: Key) -> Record | None:
        """A live session, or `None`; changes nothing."""

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """Move `expires_at` of a live session to the later of itself and now + `by`, not past the policy's cap.

        Answers the resulting `expires_at`, `None` when not live. Safe to repeat.
        """

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """Give a live session a new digest, if the old one is still its present one.

        `None` when it is not. Of any number of parallel rotations of one digest exactly one succeeds. Safe to repeat
        with the same successor.
        """

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """Replace the metadata of a live session whose `metadata_version` is still `version`.

        `None` means not live or moved on: read again and decide.
        """

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """End a live session; `None` when there was nothing live to end. Safe to repeat."""

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """End all live sessions of a user but `keep`: each one whose create committed before this call.

        One whose create commits after it lives. Safe to repeat.
        """

    async def erase_user(self, user_id: str) -> int:
        """Delete every row held about a user, live or ended; how many sessions that were. Safe to repeat."""

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """Why a digest opens nothing; `None` while its session is live, `unknown` where there is no trace of it.

        Of a token that rotation replaced a store must know the direct predecessor (`replaced`), and may know others.
        """

    async def end_of(self, id: UUID) -> End | None:
        """When and why a session ended; `None` while it is live, and for one the store does not know.

        One that has run out ended when it did so; from the sweep on, when the sweep noted it, and the retention
        counts from then.
        """

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """Which of these sessions live and how the others ended, in one statement for all that live. Changes nothing.

        An end is final: of a session whose time is just over, while a write that found it live may yet prolong it,
        the store says that it is unsure, for less than ten seconds. One that the store does not know is left out.
        """

    @property
    def channel(self) -> Channel:
        """How `listen` hears of other processes' ends just now."""

    async def listen(self, hint: Hint) -> None:
        """Hint at sessions that other processes end, until cancelled. Raises nothing else.

        A hint proves nothing: look with `standing` before you act. It may be false, and it may be missing while the
        channel is down, so ask now and then as well. Whenever hints may have been missed, it hints at all.
        """

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """The live session whose direct predecessor this digest is, past its grace and used since it was replaced.

        Whoever presents such a token kept it longer than its owner did. `None` for any other digest.
        """

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """At most `limit` live sessions in order of id, of one user or of all, from the first or after an id.

        The id to begin after need not be one that there is.
        """

    async def count_live(self) -> int:
        """How many sessions are live at one instant. Exact."""

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """Keep a one-time ticket for a live session, bound to an origin; its `expires_at`, or `None` when not live."""

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """Use a ticket up: the id of its session. `None` for one that is unknown, used, expired or of another origin.

        Of two at once one wins. A ticket tried with another origin is used up all the same.
        """

    async def mark_expired(self, limit: int) -> list[End]:
        """Mark at most `limit` sessions as ended that have expired or idled out; the ends it made.

        Skips rows that others hold, so fewer than `limit` need not mean that none is left.
        """

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """At most `limit` ends that no hook has heard of and that are older than `older_than`: the oldest first."""

    async def told(self, ids: Sequence[UUID]) -> None:
        """Note that a hook has heard of these ends. Safe to repeat."""

    async def expect_hooks(self) -> None:
        """Note that a process with an end hook uses this store, so that ends are kept until one has heard of them.

        Holds for seven days from the last such note: after that nobody is waiting for them any more.
        """

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """Delete at most `limit` ended sessions, and tickets past their time. Skips rows that others hold.

        Only ends with one of these reasons that happened longer ago than `older_than`, and, while hooks are
        expected, that a hook has heard of. Answers how many sessions.
        """


@runtime_checkable
class MovableStore(Store, Protocol):
    """A store that a move can leave or enter."""

    async def authority(self) -> Held:
        """Whether this store accepts writes, as its database has it now. Changes nothing."""
