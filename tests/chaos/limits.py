"""Every bound and every allowance of the checker, each with its reason. All are seconds unless they say otherwise.

The promises are those of the product (its section of promises; docs/reference/glossary.md has the words). What is
added to them is what the observer cannot tell apart from a broken promise, and nothing else.
"""

from typing import Final

from tests.chaos.history import CallKind

# What is promised

CLOSE_WITHIN: Final = 1.0
"""Promise 6: from the acknowledgement of an end to the close frame, on any server that hears of ends by push."""
CLOSE_WITHIN_POLLING: Final = 10.0
"""Promise 6, when the push channel of that server was down. Only time in which it could have looked counts."""
EXPIRY_WITHIN: Final = 1.0
"""Promise 4, by the database's clock."""
UNSEEN_WITHIN: Final = 10.0
"""How old the last look at a session may be when something is delivered to its socket, after any freeze (promise 6)."""
READY_WITHIN: Final = 10.0
"""A server serves again so long after the last fault that concerned it is over, without anybody's help."""

# What is allowed on top, because of how it is observed

OBSERVING: Final = 0.5
"""For everything that is timed across processes.

Three servers, PostgreSQL with some forty backends, the proxies and all clients share the processors of one machine,
and a fault that has just ended leaves all of them work at once. What is measured is added besides: the time for which
the kernel kept the server in question waiting for a processor, and by how much the observer's own loop was late.
"""
CLOCKS: Final = 0.05
"""The database's clock is compared with the observer's by asking for it over a connection: half of that way, twice."""
CALL: Final = 1.0
"""For an HTTP call beyond the deadlines of its store calls: connecting, joining the queue, encoding, the way back.

Also what a server in start-up needs to take the calls that wait in its backlog.
"""
STARVED: Final = 0.5
"""So long without a processor, within the time of one call, a server can run into the deadline of a store call with
nothing broken. PostgreSQL, which is not measured, shares its fate."""
TICKETS_LAST: Final = 25.0
"""A ticket lives for 30 s, of which its answer took some to arrive."""
LOCKS_LAST: Final = 10.0
"""How long an idle transaction keeps its locks: every connection sets `idle_in_transaction_session_timeout` so."""
MOSTLY_SERVED: Final = 0.9
"""The share of calls that must not fail on servers that have no trouble. The others meet locks of a server that has."""
UNKNOWN_TAIL: Final = 15.0
"""After its client was told "unknown", how long a write may still happen: a commit that a silent line holds back for as
long as the longest silence (`nemesis.LONGEST`), and then PostgreSQL's own limit on a transaction that stands idle."""

SHORTEST_TIMEOUT: Final = 0.8
"""As a share of the deadline: no store call runs into a time-out before. So what was quicker, while nothing was broken,
had an answer."""

STORE_CALLS: Final[dict[CallKind, int]] = {
    "create": 1,
    "validate": 1,
    "current": 1,
    "rotate": 1,
    "extend": 1,
    # Read, merge, compare-and-set; and once more of both when another update came in between.
    "metadata": 4,
    "end_own": 1,
    # With the look whether an end of unknown outcome was made.
    "end": 2,
    # The own session, the other one, its end, and that look.
    "end_device": 4,
    "revoke": 1,
    "ticket": 1,
    # The count and the clock.
    "stats": 2,
    "forged": 1,
}
"""How many calls to the store, each with a deadline of its own, one HTTP call may make in a row (promise 7)."""

HANDSHAKE_CALLS: Final = 2
"""A validate and, when its outcome is unknown, the question whether the session lives; or taking a ticket, and that."""
MESSAGE_CALLS: Final = 4
"""A validate, the question whether the session lives, why it ended, and the confirmation before a delivery."""
