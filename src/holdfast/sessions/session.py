"""What is known of one session: the record a store keeps, and the immutable value an application holds."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self, get_args
from uuid import UUID

from holdfast.sessions import metadata as metadata_rules
from holdfast.sessions.errors import InvalidArgument, StoreRefused

EndReason = Literal["expired", "idle", "revoked", "evicted"]
"""Why a session is over. Final."""

WhyEnded = Literal["unknown", "expired", "idle", "revoked", "evicted", "replaced"]
"""Why a token opens nothing: its session's end, or `replaced` by rotation, or `unknown` to the store."""

END_REASONS: tuple[EndReason, ...] = get_args(EndReason)
MAX_USER_ID = 255


class Record(NamedTuple):
    """The stored facts of a live session, as a store answers them. Callers of one batch may share it."""

    id: UUID
    user_id: str | None
    metadata: str
    """JSON text that `metadata.decode` reads."""
    metadata_version: int
    created_at: datetime
    expires_at: datetime
    last_activity: datetime
    request_count: int


class NewRecord(NamedTuple):
    """What is chosen before the first attempt to create a session, so that an attempt may be repeated."""

    id: UUID
    digest: bytes
    user_id: str | None
    metadata: str


class End(NamedTuple):
    """That a session is over: which one, whose, why, and when by the database's clock (aware, UTC)."""

    id: str
    user_id: str | None
    reason: EndReason
    ended_at: datetime


class Created(NamedTuple):
    """What a create under a cap did: the new session, and the ends of those that made room for it."""

    record: Record
    evicted: list[End]


class Standing(NamedTuple):
    """Which of some sessions live, by the store's clock at one instant. One that is nowhere here left no trace."""

    now: datetime
    live: list[tuple[UUID, datetime]]
    """Those that live, each with the time at which it runs out unless something happens."""
    ended: list[End]
    unsure: Collection[UUID] = ()
    """Those that have run out, unless a write under way prolongs them: to be asked about again in a moment."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was when the store answered. Immutable and always true; times are aware and in UTC."""

    id: str
    """The public handle; opens nothing."""
    user_id: str | None
    """Whose it is; `None` for an anonymous visitor."""
    metadata: dict[str, Any]
    """The application's own facts. The dict is this value's own: changing it changes no session."""
    created_at: datetime
    expires_at: datetime
    last_activity: datetime
    request_count: int
    """How often the session was validated, this time included."""

    @classmethod
    def of(cls, record: Record) -> Self:
        """The application's view of a record. Raises `StoreRefused`, naming the id, when its metadata is damaged."""
        try:
            metadata = metadata_rules.decode(record.metadata)
        except StoreRefused as error:
            raise StoreRefused(f"session {record.id}: {error}") from error
        return cls(
            str(record.id),
            record.user_id,
            metadata,
            record.created_at,
            record.expires_at,
            record.last_activity,
            record.request_count,
        )

    def __hash__(self) -> int:
        """By the id alone: equal values have equal ids, and a dict of metadata has no hash."""
        return hash(self.id)


class NewSession(tuple[str, datetime]):  # noqa: SLOT001 - a subclass of tuple cannot have named slots
    """What create and rotate answer: `token, expires_at = …`, with the id beside them.

    It is the only value that ever holds a token, and its text form leaves it out.
    """

    id: str

    def __new__(cls, id: str, token: str, expires_at: datetime) -> Self:
        """Make the pair, and keep the id beside it."""
        new = super().__new__(cls, (token, expires_at))
        new.id = id
        return new

    @property
    def token(self) -> str:
        """The secret for the client. Nothing shows it a second time."""
        return self[0]

    @property
    def expires_at(self) -> datetime:
        """When the session expires unless it is extended (aware, UTC)."""
        return self[1]

    def __getnewargs__(self) -> tuple[str, str, datetime]:
        """What copying and pickling make it from again. So a pickle holds the token, though the text form does not."""
        return self.id, self.token, self.expires_at

    def __repr__(self) -> str:
        return f"NewSession(id={self.id!r}, expires_at={self.expires_at.isoformat()!r}, token=hidden)"


def checked_user_id(user_id: str) -> str:
    """A user id of 1 to 255 characters that both databases can hold; anything else raises `InvalidArgument`.

    Compared exactly: two spellings that Unicode calls equivalent are two users.
    """
    if not isinstance(user_id, str):
        raise InvalidArgument(f"a user id is a string, not {type(user_id).__name__}")
    if not 1 <= len(user_id) <= MAX_USER_ID:
        raise InvalidArgument(f"a user id has 1 to {MAX_USER_ID} characters, not {len(user_id)}")
    metadata_rules.checked_string(user_id, "the user id")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in user_id):
        raise InvalidArgument("the user id contains a control character")
    return user_id


def checked_reason(reason: EndReason) -> EndReason:
    """One of the four reasons for an end; anything else raises `InvalidArgument`."""
    if reason not in END_REASONS:
        raise InvalidArgument(f"a reason is one of {', '.join(END_REASONS)}")
    return reason
