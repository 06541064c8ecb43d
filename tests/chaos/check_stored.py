"""Checks of what is stored: promise 1, and that every end, every row and every number has its cause."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.history import Call, History, Row, Snapshot
from tests.chaos.limits import CLOCKS
from tests.chaos.story import MAY_BE_DONE, Story, causes_of_eviction, latest
from tests.chaos.violation import Violation


def durable(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 1: what was acknowledged before a snapshot is in it, and nothing in it goes back later."""
    for snapshot in history.snapshots:
        at_rest = snapshot is history.snapshots[-1]
        for story in told.values():
            for what in _lost(story, snapshot, history.rules.idle, at_rest=at_rest):
                yield Violation(1, f"session {story.id} {snapshot.why}: {what}", snapshot.begun)
    for before, after in pairwise(history.snapshots):
        for id, row in before.rows.items():
            yield from _gone_back(row, after.rows.get(id), after)


def _lost(story: Story, snapshot: Snapshot, idle: float, *, at_rest: bool) -> Iterator[str]:
    row, by = snapshot.rows.get(story.id), snapshot.begun
    if row is None:
        if story.created is not None and story.created.ended < by:
            yield "its create was acknowledged, and it is not there"
        return
    if row.user != story.user:
        yield f"it was made for {story.user}, and belongs to {row.user}"
    # What had run out by itself when its user was revoked was over already, and the sweep notes it later.
    over = min(row.expires, row.active + idle)
    ended = any(gone.known < by and (gone.found or gone.known < over) for gone in story.gone)
    if ended and row.ended is None:
        yield "its end was acknowledged, and it has not ended"
    expiry = story.known_expiry(by)
    if row.expires < expiry - CLOCKS:
        yield f"it expires {expiry - row.expires:.3f} s before what was acknowledged"
    for call in story.counted:
        if call.ended < by and call.count is not None and call.count > row.count:
            yield f"call {call.number} was told of {call.count} activities, and {row.count} are stored"
        if call.ended < by and call.last_activity is not None and call.last_activity > row.active + CLOCKS:
            yield f"the activity that call {call.number} was told of is not stored"
    yield from _metadata_lost(story, row, by)
    if at_rest:
        yield from _token_lost(story, row)


def _metadata_lost(story: Story, row: Row, by: float) -> Iterator[str]:
    for key in sorted({call.key for call in story.updates if call.outcome == "ok" and call.ended < by}):
        # A key is one client's own, and its calls follow each other: the last acknowledged one counts.
        mine = [call for call in story.updates if call.key == key]
        last = max((call for call in mine if call.outcome == "ok" and call.ended < by), key=lambda call: call.begun)
        later = {call.value for call in mine if call.outcome in MAY_BE_DONE and latest(call) > last.begun}
        if (found := row.metadata.get(key)) not in {last.value, *later}:
            yield f"call {last.number} set {key} to {last.value}, and it is {found}"


def _token_lost(story: Story, row: Row) -> Iterator[str]:
    replaced = {call.token for call in story.rotations if call.outcome == "ok"}
    perhaps = {call.token for call in story.rotations if call.outcome in ("unknown", "hung")}
    for number, digest in story.tokens.items():
        if number in replaced or row.digest == digest or (number in perhaps and row.previous == digest):
            continue
        yield f"token {number} was issued and never replaced, and is not its token"


def _gone_back(row: Row, now: Row | None, after: Snapshot) -> Iterator[Violation]:
    if now is None:
        yield Violation(1, f"session {row.id} is gone {after.why}", after.begun)
        return
    if now.count < row.count or now.expires < row.expires or now.active < row.active:
        yield Violation(1, f"session {row.id} went back in time {after.why}", after.begun)
    if row.ended is not None and (now.ended, now.reason) != (row.ended, row.reason):
        yield Violation(
            2, f"session {row.id} had ended ({row.reason}), and has not, or otherwise, {after.why}", after.begun
        )


def caused(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Nothing is stored that nobody asked for, or that certainly failed: no session, no end, no change."""
    made_by = {call.number: call for call in history.calls if call.kind == "create"}
    creates: dict[str | None, list[Call]] = defaultdict(list)
    for call in made_by.values():
        creates[call.user].append(call)
    for story in told.values():
        if (row := story.row) is None:
            continue
        maker = made_by.get(row.metadata.get("by", -1))
        if maker is None or maker.outcome not in MAY_BE_DONE:
            yield Violation(3, f"session {story.id} is there, and no call made it", row.created)
        elif maker.session not in (None, story.id):
            yield Violation(3, f"call {maker.number} made session {story.id} besides {maker.session}", row.created)
        if row.ended is not None and not _has_cause(history, story, row, row.ended, creates[story.user]):
            yield Violation(4, f"session {story.id} ended ({row.reason}), and nothing explains it", row.ended)
        for what in _uncaused(story, row):
            yield Violation(1, f"session {story.id}: {what}")


def _uncaused(story: Story, row: Row) -> Iterator[str]:
    told = story.known_expiry(float("inf"))
    perhaps = story.created is None or any(call.outcome in ("unknown", "hung") for call in story.extensions)
    if row.expires > told + CLOCKS and not perhaps:
        yield f"it expires {row.expires - told:.3f} s after what anybody was told"
    for key, value in row.metadata.items():
        wanted = {call.value for call in story.updates if call.key == key and call.outcome in MAY_BE_DONE}
        if key != "by" and value not in wanted:
            yield f"{key} is {value}, and no call that may have been done set it so"


def _has_cause(history: History, story: Story, row: Row, ended: float, creates: list[Call]) -> bool:
    if row.reason == "revoked":
        return any(call.begun - CLOCKS <= ended <= latest(call) + CLOCKS for call in story.may_end)
    if row.reason == "evicted":
        return bool(causes_of_eviction(story, creates))
    due = row.expires if row.reason == "expired" else row.active + history.rules.idle
    return ended >= due - CLOCKS


def capped(history: History, told: dict[str, Story]) -> Iterator[Violation]:
    """Promise 5: at no instant of the database's clock did a user have more live sessions than the cap."""
    of_user: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for story in told.values():
        if story.row is not None and story.user is not None:
            over = story.due(history.rules.idle)
            over = over if story.row.ended is None else min(over, story.row.ended)
            of_user[story.user] += [(story.row.created, 1), (over, -1)]
    for user, changes in of_user.items():
        live = 0
        # An end and a beginning at one instant: the end comes first.
        for at, change in sorted(changes):
            live += change
            if live > history.rules.cap:
                yield Violation(5, f"{user} had {live} live sessions, and the cap is {history.rules.cap}", at)
                break
