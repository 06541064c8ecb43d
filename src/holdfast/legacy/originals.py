"""What is kept of a legacy row that Holdfast could not take as it was: everything but its token."""

import json
from hashlib import sha256
from typing import Any

from holdfast.legacy.rows import LegacyRow


def digest_of_row(row: LegacyRow) -> bytes:
    """What a row is known by without its token: the token's digest; of the whole row when it has none."""
    token = row.session_id
    if isinstance(token, str):
        return sha256(token.encode(errors="surrogatepass")).digest()
    # No token that anybody could present. The prefix keeps it apart from the digest of any text.
    return sha256(b"\xff" + json.dumps(row, default=_plain).encode()).digest()


def original(row: LegacyRow) -> str:
    """All but the token, so that every value and its type can be told from it: bytes are `{"hex": …}`."""
    values = {name: value for name, value in row._asdict().items() if name != "session_id"}
    return json.dumps(values, default=_plain)


def owner(row: LegacyRow) -> str | None:
    """Whose a row is, as far as that can be told: an erase of the user empties what is kept of it."""
    return row.user_id if isinstance(row.user_id, str) and "\0" not in row.user_id else None


def _plain(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else str(value)
