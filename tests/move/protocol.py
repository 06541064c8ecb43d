"""The move's protocol as a small machine: every step one transaction in one store, every interleaving possible.

One session, whose value is the set of writes it holds. Two library writes and one by a legacy process may come at any
moment. Two movers may each stop between looking and committing for as long as they like (a crash is a stop for ever),
and take the lease from each other. There is one cut-over, one abort and one roll-back, which may be called off once.
Legacy writes after the flip are drained: taken, logged and forwarded. Sealing is the same machine without them.

The store that is left decides: SQLite at a cut-over, PostgreSQL at a roll-back. The one that is entered opens last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

LEGACY: Final = 0b100
LIBRARY: Final = (0b001, 0b010)

Authority = Literal["sqlite", "pending", "postgresql"]
Phase = Literal["following", "cutting", "switched", "returning", "returned"]
Kind = Literal[
    "apply", "cut", "flip", "settle", "decide", "open", "withdraw", "resume",
    "forward", "reverse", "fence", "give back", "enter", "follow", "stay",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Safeguards:
    """What keeps the machine safe; a test takes them away one at a time."""

    postgresql_checks_token: bool = True
    """PostgreSQL refuses a mover whose lease another one has taken."""
    sqlite_checks_token: bool = True
    """SQLite refuses a mover with a smaller token than the highest it has seen."""
    decides_before_opening: bool = True
    """PostgreSQL opens only after SQLite has given its authority up."""
    folds_in_stragglers: bool = True
    """The transaction that brings SQLite back adds the logged legacy writes that were never forwarded."""
    spares_unforwarded: bool = True
    """Reverse replication leaves a row alone while a legacy write to it has not been forwarded."""


class Plan(NamedTuple):
    """What a mover has looked up and is about to commit: in one store, and maybe much later."""

    kind: Kind
    token: int
    image: int = 0
    """The session's value as it was when the mover looked."""
    position: int = 0
    """What belongs to the image: a position in SQLite's log, the number of a flip, or the forwarded stragglers."""


class State(NamedTuple):
    """Both stores, the movers, and what has been acknowledged. Sets of writes are bits."""

    authority: Authority = "sqlite"
    highest_token: int = 0
    sqlite: int = 0
    log: int = 0
    frozen: int | None = None
    """SQLite's image of what was still dirty at the flip; `None` when nothing was, or no flip is under way."""
    stragglers: int = 0
    flips: int = 0
    """Which flip the frozen image belongs to: one that was withdrawn must not count as settled for the next."""

    phase: Phase = "following"
    open: bool = False
    token: int = 1
    postgresql: int = 0
    cursor: int = 0
    settled: int = 0
    """The flip whose frozen images are in, or that had none."""
    forwarded: int = 0

    tokens: tuple[int, int] = (1, 0)
    plans: tuple[Plan | None, Plan | None] = (None, None)
    unwritten: int = LEGACY | LIBRARY[0] | LIBRARY[1]
    acknowledged: int = 0
    cuts: int = 1
    withdrawals: int = 1
    returns: int = 1
    stays: int = 1
    takeovers: int = 2


def successors(state: State, safeguards: Safeguards) -> Iterator[State]:
    """Every state that one step of anybody leads to."""
    yield from _writes(state)
    for mover in (0, 1):
        if state.takeovers and state.tokens[mover] != state.token:
            # A mover that takes over begins afresh; whom it took over from does not know.
            token = state.token + 1
            yield _with_mover(state, mover, token, None)._replace(token=token, takeovers=state.takeovers - 1)
        plan = state.plans[mover]
        if plan is not None:
            done = _commit(_with_mover(state, mover, state.tokens[mover], None), plan, safeguards)
            if done is not None:
                yield done
        elif state.tokens[mover]:
            for next_plan in _plans(state, state.tokens[mover], safeguards):
                yield _with_mover(state, mover, state.tokens[mover], next_plan)


def violation(state: State) -> str | None:
    """The promise a state breaks."""
    if state.open and state.authority == "sqlite":
        return "both stores are open"
    unforwarded = state.stragglers & ~state.forwarded
    if state.authority == "sqlite":
        kept = state.sqlite
    elif state.phase in ("following", "cutting"):
        kept = (state.postgresql if state.frozen is None else state.frozen) | state.stragglers
    else:
        kept = state.postgresql | unforwarded
    if state.acknowledged & ~kept:
        return "an acknowledged write is lost"
    if unforwarded & ~state.sqlite:
        return "a legacy process does not find its own write"
    return None


def is_good_end(state: State) -> bool:
    """Whether exactly one store serves, and both sides agree on which."""
    if state.authority == "sqlite":
        return state.phase == "following" and not state.open
    return state.authority == "postgresql" and state.phase == "switched" and state.open


def _with_mover(state: State, mover: int, token: int, plan: Plan | None) -> State:
    tokens, plans = list(state.tokens), list(state.plans)
    tokens[mover], plans[mover] = token, plan
    return state._replace(tokens=(tokens[0], tokens[1]), plans=(plans[0], plans[1]))


def _writes(state: State) -> Iterator[State]:
    """Clients' writes. A library process writes where it is let; a legacy one knows of SQLite only."""
    for write in (*LIBRARY, LEGACY):
        if not state.unwritten & write:
            continue
        told = state._replace(unwritten=state.unwritten & ~write, acknowledged=state.acknowledged | write)
        if state.authority == "sqlite":
            yield told._replace(sqlite=state.sqlite | write, log=state.log + 1)
        elif write == LEGACY:
            yield told._replace(sqlite=state.sqlite | write, stragglers=state.stragglers | write)
        if write != LEGACY and state.open:
            yield told._replace(postgresql=state.postgresql | write)


def _plans(state: State, token: int, safeguards: Safeguards) -> Iterator[Plan]:
    """What a mover that looks now would do next. Every look is one at both stores; the commit may come much later."""
    match state.authority, state.phase:
        case "sqlite", "following":
            if state.cursor != state.log:
                yield Plan("apply", token, state.sqlite, state.log)
            elif state.cuts:
                yield Plan("cut", token)
        case "sqlite", "cutting":
            yield Plan("flip", token, position=state.cursor)
            if state.withdrawals:
                yield Plan("resume", token)
        case "pending", "cutting":
            if state.settled != state.flips:
                yield Plan("settle", token, _settled_value(state), state.flips)
            elif not safeguards.decides_before_opening:
                yield Plan("open", token)
            else:
                yield Plan("decide", token)
            if state.withdrawals:
                yield Plan("withdraw", token)
        case "pending", "following":
            # A flip that came after its cut-over had been called off.
            yield Plan("withdraw", token)
        case "pending", "switched":
            yield Plan("decide", token)
        case "postgresql", "cutting":
            settled = state.settled == state.flips
            yield Plan("open", token) if settled else Plan("settle", token, _settled_value(state), state.flips)
        case "postgresql", "switched":
            if state.stragglers & ~state.forwarded:
                yield Plan("forward", token, state.stragglers)
            if state.sqlite != state.postgresql:
                yield Plan("reverse", token, state.postgresql, state.forwarded)
            if state.returns:
                yield Plan("fence", token)
        case "postgresql", "returning":
            if state.stays:
                # Nobody can tell here whether SQLite is lost, or only slow.
                yield Plan("stay", token)
            if state.sqlite == state.postgresql or state.stragglers & ~state.forwarded:
                yield Plan("give back", token)
            else:
                yield Plan("reverse", token, state.postgresql, state.forwarded)
        case "postgresql", "returned":
            yield Plan("enter", token, state.postgresql, state.forwarded)
        case "sqlite", "returned":
            yield Plan("follow", token)


def _settled_value(state: State) -> int:
    """What PostgreSQL holds once the frozen image is in: the copy as it is when nothing was dirty."""
    return state.postgresql if state.frozen is None else state.frozen


_IN_SQLITE: Final = ("flip", "decide", "withdraw", "reverse", "enter")


def _commit(state: State, plan: Plan, safeguards: Safeguards) -> State | None:
    """The state after a plan's transaction; `None` when its store refuses it. Then the mover looks again."""
    if plan.kind in _IN_SQLITE:
        if safeguards.sqlite_checks_token and plan.token < state.highest_token:
            return state
        after = _commit_in_sqlite(state, plan, safeguards)
        return state if after is None else after._replace(highest_token=max(plan.token, state.highest_token))
    if safeguards.postgresql_checks_token and plan.token != state.token:
        return state
    after = _commit_in_postgresql(state, plan, safeguards)
    return state if after is None else after


def _commit_in_sqlite(state: State, plan: Plan, safeguards: Safeguards) -> State | None:
    match plan.kind, state.authority:
        case "flip", "sqlite":
            frozen = state.sqlite if state.log > plan.position else None
            return state._replace(authority="pending", frozen=frozen, flips=state.flips + 1)
        case "decide", "pending":
            return state._replace(authority="postgresql")
        case "withdraw", "pending":
            # Stragglers are ordinary writes again, and what PostgreSQL holds may lag behind all of them.
            back = state._replace(authority="sqlite", frozen=None, stragglers=0, log=state.log + 1)
            return back._replace(withdrawals=max(0, state.withdrawals - 1))
        case "reverse", "postgresql":
            if safeguards.spares_unforwarded and state.stragglers & ~plan.position:
                return None
            return state._replace(sqlite=plan.image)
        case "enter", "postgresql":
            unforwarded = state.stragglers & ~plan.position if safeguards.folds_in_stragglers else 0
            back = state._replace(authority="sqlite", sqlite=plan.image | unforwarded, log=state.log + 1)
            return back._replace(stragglers=0, frozen=None)
        case "reverse", "sqlite" if not safeguards.sqlite_checks_token:
            return state._replace(sqlite=plan.image)
    return None


def _commit_in_postgresql(state: State, plan: Plan, safeguards: Safeguards) -> State | None:
    match plan.kind, state.phase:
        case "apply", "following":
            return state._replace(postgresql=plan.image, cursor=plan.position)
        case "apply", "switched" if not safeguards.postgresql_checks_token:
            return state._replace(postgresql=plan.image, cursor=plan.position)
        case "cut", "following":
            return state._replace(phase="cutting", cuts=state.cuts - 1)
        case "resume", "cutting":
            return state._replace(phase="following", withdrawals=max(0, state.withdrawals - 1))
        case "settle", "cutting":
            return state._replace(postgresql=plan.image, settled=plan.position)
        case "open", "cutting":
            return state._replace(phase="switched", open=True, forwarded=0)
        case "forward", "switched":
            return state._replace(postgresql=state.postgresql | plan.image, forwarded=state.forwarded | plan.image)
        case "fence", "switched":
            return state._replace(phase="returning", open=False, returns=state.returns - 1)
        case "stay", "returning":
            # The way back may be taken again.
            again = state.returns + 1
            return state._replace(phase="switched", open=True, returns=again, stays=state.stays - 1)
        case "give back", "returning":
            return state._replace(phase="returned")
        case "follow", "returned":
            return state._replace(phase="following", forwarded=0)
    return None
