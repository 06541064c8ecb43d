"""The shapes of answers, and what is said in them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from holdfast.api.bodies import TOKEN
from holdfast.sessions.session import NewSession, Session
from holdfast.sessions.statistics import Statistics
from holdfast.sessions.timestamps import timestamp

_ID: Final = "01938a5e-7b1c-7f3e-8f4a-2b6f0c9d1e22"
_TIME: Final = "2026-11-22T10:00:00.000000Z"
_SESSION: Final[dict[str, Any]] = {
    "id": _ID,
    "user_id": "u1",
    "metadata": {"lang": "ko"},
    "created_at": _TIME,
    "expires_at": "2026-11-23T10:00:00.000000Z",
    "last_activity": "2026-11-22T11:30:00.000000Z",
    "request_count": 7,
}

Time = Annotated[str, Field(description="RFC 3339, UTC, with microseconds.", json_schema_extra={"format": "date-time"})]


def _showing(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class CreatedAnswer(BaseModel):
    """A session's token, shown this once."""

    model_config = _showing({"id": _ID, "token": TOKEN, "expires_at": _TIME})
    id: str
    token: str
    expires_at: Time


class RotatedAnswer(BaseModel):
    """A session's new token, shown this once, or set as the cookie and not shown."""

    model_config = _showing({"id": _ID, "token": TOKEN, "expires_at": _TIME}, {"id": _ID, "expires_at": _TIME})
    id: str
    token: Annotated[str | None, Field(description="Absent when the old one came in a cookie.")] = None
    expires_at: Time


class SessionAnswer(BaseModel):
    """A live session."""

    model_config = _showing(_SESSION)
    id: str
    user_id: str | None
    metadata: dict[str, Any]
    created_at: Time
    expires_at: Time
    last_activity: Time
    request_count: int


class ValidateAnswer(BaseModel):
    """Whether a token opens a session; the same answer for one that is unknown, expired or revoked."""

    model_config = _showing({"active": True, "session": _SESSION}, {"active": False, "session": None})
    active: bool
    session: SessionAnswer | None


class PageAnswer(BaseModel):
    """Live sessions, oldest first. `next` is the `after` of the next page, null on the last one."""

    model_config = _showing({"sessions": [_SESSION], "next": None})
    sessions: list[SessionAnswer]
    next: str | None


class DeviceAnswer(SessionAnswer):
    """A session of the asking user."""

    model_config = _showing({**_SESSION, "current": True})
    current: bool


class DevicesAnswer(BaseModel):
    """The asking user's live sessions, this one among them."""

    model_config = _showing({"sessions": [{**_SESSION, "current": True}], "next": None})
    sessions: list[DeviceAnswer]
    next: str | None


class ExpiryAnswer(BaseModel):
    """The resulting expiry."""

    model_config = _showing({"expires_at": _TIME})
    expires_at: Time


class TicketAnswer(BaseModel):
    """A one-time ticket for a WebSocket handshake."""

    model_config = _showing({"ticket": "hft_…", "expires_at": _TIME})
    ticket: str
    expires_at: Time


class RevokedAnswer(BaseModel):
    """How many sessions ended."""

    model_config = _showing({"revoked": 3})
    revoked: int


class ErasedAnswer(BaseModel):
    """How many sessions, live or ended, were deleted."""

    model_config = _showing({"erased": 5})
    erased: int


class RemovedAnswer(BaseModel):
    """How many expired sessions were removed."""

    model_config = _showing({"removed": 12})
    removed: int


class MoveAnswer(BaseModel):
    """How the move between this server's two stores stands. Null is what nobody knows at the moment."""

    model_config = _showing(
        {
            "serving": "sqlite",
            "authority": "sqlite",
            "phase": "following",
            "waiting": False,
            "epoch": 1,
            "lag": 3,
            "rows": 1042,
            "copied": 1040,
            "verified_at": _TIME,
            "quarantined": 0,
            "away": [],
        }
    )
    serving: str | None = Field(description="Which store this process serves from: sqlite or postgresql.")
    authority: str | None = Field(description="Which store accepts writes; null before any move, when both would.")
    phase: str = Field(description="How far the move is; `none` without one, `unknown` while PostgreSQL is away.")
    waiting: bool | None = Field(description="Whether writes wait for a decision.")
    epoch: int | None = Field(description="Grows with every change of authority.")
    lag: int | None = Field(description="Changes that one store has and the other not yet, counted up to 100,000.")
    rows: int | None = Field(description="Rows of the store that has the authority, counted now and then.")
    copied: int | None = Field(description="Rows of the other store, counted now and then.")
    verified_at: Time | None = Field(description="When all rows were last compared and none differed.")
    quarantined: int | None = Field(description="Rows of an application's own table that became no session.")
    away: list[str] = Field(description="Which of the two stores did not answer.")


class HourAnswer(BaseModel):
    """What happened in one hour, to sessions that are still kept."""

    hour: Time
    created: int
    ended: int


class ShareAnswer(BaseModel):
    """The sessions of one user, or of one kind of device; null for those without one."""

    name: str | None
    live: int
    kept: int
    requests: int


class DurationsAnswer(BaseModel):
    """How long sessions lasted that have ended, in seconds."""

    sessions: int
    median: float
    p90: float
    p99: float
    longest: float


class StatisticsAnswer(BaseModel):
    """One look at everything that is kept, as `holdfast sessions stats` shows it."""

    at: Time
    live: int
    ended: int
    hours: list[HourAnswer] = Field(description="The newest first; only hours in which something happened.")
    users: list[ShareAnswer]
    devices: list[ShareAnswer] = Field(description="By the metadata's key `device`.")
    durations: DurationsAnswer | None = Field(description="Null where no ended session is kept.")


class StatsAnswer(BaseModel):
    """What is cheap to know. Durations are seconds; null means no limit."""

    model_config = _showing(
        {
            "active_sessions": 42,
            "store_time": _TIME,
            "lifetime_seconds": 86400.0,
            "idle_timeout_seconds": None,
            "max_lifetime_seconds": 2592000.0,
            "move": None,
        }
    )
    active_sessions: int
    store_time: Time
    lifetime_seconds: float
    idle_timeout_seconds: float | None
    max_lifetime_seconds: float | None
    move: MoveAnswer | None = Field(default=None, description="Null where there is one store.")
    statistics: StatisticsAnswer | None = Field(default=None, description="There when `hours` asked for it.")


class ErrorAnswer(BaseModel):
    """Why not. `correlation_id` from status 500 up: it is in the server's log."""

    model_config = _showing({"error": "invalid", "message": "body.hours: Input should be greater than 0"})
    error: str
    message: str
    correlation_id: str | None = None


def statistics_body(found: Statistics) -> dict[str, Any]:
    """What a store says of its sessions as a whole."""
    values = asdict(found)
    hours = [{**hour, "hour": timestamp(hour["hour"])} for hour in values["hours"]]
    return {**values, "at": timestamp(found.at), "hours": hours}


def session_body(session: Session) -> Mapping[str, Any]:
    """A session in the form of `SessionAnswer`."""
    return {
        "id": session.id,
        "user_id": session.user_id,
        "metadata": session.metadata,
        "created_at": timestamp(session.created_at),
        "expires_at": timestamp(session.expires_at),
        "last_activity": timestamp(session.last_activity),
        "request_count": session.request_count,
    }


def created_body(new: NewSession) -> Mapping[str, Any]:
    """A new token in the form of `CreatedAnswer`: with create and rotate, the only answers that hold one."""
    return {"id": new.id, "token": new.token, "expires_at": timestamp(new.expires_at)}


def rotated_body(new: NewSession, *, show_token: bool) -> Mapping[str, Any]:
    """A rotated session in the form of `RotatedAnswer`."""
    body = created_body(new)
    return body if show_token else {name: value for name, value in body.items() if name != "token"}
