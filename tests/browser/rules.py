"""The client's rules as cases, for Node.js and for a browser: close codes, and pauses between attempts."""

from typing import Final

# Each case is `[code, reason]` as JSON knows it; a tuple here, because it is a key.
MEANINGS: Final[dict[tuple[int, str], dict[str, str]]] = {
    (1000, ""): {"state": "closed", "reason": ""},
    (1000, "bye"): {"state": "closed", "reason": "bye"},
    (1001, ""): {"state": "reconnecting", "reason": "restart"},
    (1002, ""): {"state": "closed", "reason": ""},
    (1005, ""): {"state": "closed", "reason": ""},
    (1006, ""): {"state": "reconnecting", "reason": "lost"},
    (1008, "too fast"): {"state": "closed", "reason": "too fast"},
    (1009, "too big"): {"state": "closed", "reason": "too big"},
    (1011, ""): {"state": "reconnecting", "reason": "unavailable"},
    (1012, "restart"): {"state": "reconnecting", "reason": "restart"},
    (1013, "unavailable"): {"state": "reconnecting", "reason": "unavailable"},
    (1013, "overloaded"): {"state": "reconnecting", "reason": "unavailable"},
    (3000, "unauthenticated"): {"state": "login-needed", "reason": "unauthenticated"},
    (3003, "forbidden"): {"state": "closed", "reason": "forbidden"},
    (4401, "expired"): {"state": "login-needed", "reason": "expired"},
    (4401, "idle"): {"state": "login-needed", "reason": "idle"},
    (4401, ""): {"state": "login-needed", "reason": "expired"},
    (4403, "revoked"): {"state": "revoked", "reason": ""},
    (4409, "evicted"): {"state": "evicted", "reason": ""},
    (4999, "of another application"): {"state": "closed", "reason": "of another application"},
}
TELLS_MEANINGS: Final = "(client, cases) => cases.map(([code, reason]) => client.meaning(code, reason))"

# `(attempt, base, cap, random)` and the pause in milliseconds.
BACKOFFS: Final[dict[tuple[float, ...], float]] = {
    (0, 500, 30_000, 0): 0,
    (0, 500, 30_000, 0.5): 250,
    (1, 500, 30_000, 0.5): 500,
    (3, 500, 30_000, 0.75): 3000,
    (5, 500, 30_000, 0.5): 8000,
    (6, 500, 30_000, 0.5): 15_000,
    (7, 500, 30_000, 0.5): 15_000,
    (5000, 500, 30_000, 0.5): 15_000,
    (2, 10, 20, 0.5): 10,
}
TELLS_BACKOFFS: Final = """
    (client, cases) => cases.map(([attempt, base, cap, number]) =>
        client.backoff(attempt, { base, cap, random: () => number }))
"""
