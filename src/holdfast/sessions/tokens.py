"""The secrets that clients present, and the digest that stores keep instead.

A token is `hfs_`, 43 characters drawn uniformly from 62 (256.03 random bits), and the CRC-32 of all that in
eight hexadecimal digits. The prefix lets scanners find leaked tokens; the checksum lets a typo or a made-up
string be refused before any database is asked. It is not a secret and proves nothing: the 256 bits do.
A ticket has the same form with the prefix `hft_`.

Why not a slow hash: 256 random bits cannot be guessed, so SHA-256 is enough (OWASP ASVS 5.0, 7.2.3 and 11.5.1
ask for at least 128 bits).
"""

import re
import secrets
from binascii import crc32
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NewType

from holdfast.sessions.errors import InvalidArgument

TokenDigest = NewType("TokenDigest", bytes)
"""SHA-256 of a token: 32 bytes, the only form of it in a Holdfast store."""

TOKEN_PREFIX: Final = "hfs_"
TICKET_PREFIX: Final = "hft_"
_FORM: Final = r"[0-9A-Za-z]{43}[0-9a-f]{8}"
TOKEN_PATTERN: Final = rf"hf[st]_{_FORM}"
"""What a token or a ticket looks like, for secret scanners."""
CLEAR_TOKEN_PATTERN: Final = r"session-[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}"
"""What a token of the legacy form looks like as old applications made it, from a UUID."""
SECRET_PATTERN: Final = f"{TOKEN_PATTERN}|{CLEAR_TOKEN_PATTERN}"
"""All that by its look opens a session, for the filters that keep it out of logs and addresses."""

MAX_CLEAR_TOKEN: Final = 255
"""The longest token that an application's own code may have issued, in characters."""

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH: Final = 43
_CHECKSUM_LENGTH: Final = 8
# Bytes from 248 up are thrown away: 248 is the largest multiple of 62 in a byte, so the rest is uniform.
_UNIFORM_BELOW: Final = 248
_is_token = re.compile(TOKEN_PREFIX + _FORM).fullmatch
_is_ticket = re.compile(TICKET_PREFIX + _FORM).fullmatch


def new_token() -> str:
    """A fresh session token. Shown to the client once; only `digest_of` it is ever stored."""
    return _issue(TOKEN_PREFIX)


def new_ticket() -> str:
    """A fresh one-time ticket for a WebSocket handshake."""
    return _issue(TICKET_PREFIX)


def digest_of(token: str) -> TokenDigest | None:
    """The digest of a well-formed token, or `None` for any other text. Asks no database.

    Raises `InvalidArgument` when the token is not a string.
    """
    return _digest(token, _is_token)


def digest_of_new(secret: str) -> TokenDigest:
    """The digest of a token or ticket that this process has just made."""
    return TokenDigest(sha256(secret.encode()).digest())


def ticket_digest_of(ticket: str) -> TokenDigest | None:
    """The digest of a well-formed ticket, or `None`; a token is not a ticket."""
    return _digest(ticket, _is_ticket)


class ClearDigest(bytes):
    """A digest with its token beside it: for a store that keeps tokens in clear, and can tell a token by nothing else.

    Equal to the plain digest, and shown like it.
    """

    token: str


def clear_digest_of(token: str) -> TokenDigest | None:
    """The digest of a text that an application's own code may have issued, or `None` for one that it cannot have.

    Only for a store that keeps tokens in clear (`Store`): anything up to 255 characters may be one there.
    Raises `InvalidArgument` when the token is not a string.
    """
    if not isinstance(token, str):
        raise InvalidArgument(f"a token is a string, not {type(token).__name__}")
    if not 1 <= len(token) <= MAX_CLEAR_TOKEN or "\0" in token:
        return None
    try:
        digest = ClearDigest(sha256(token.encode()).digest())
    except UnicodeEncodeError:
        return None
    digest.token = token
    return TokenDigest(digest)


def clear_digest_of_new(secret: str) -> TokenDigest:
    """As `digest_of_new`, for a store that keeps tokens in clear."""
    digest = ClearDigest(sha256(secret.encode()).digest())
    digest.token = secret
    return TokenDigest(digest)


def digest_for(store: object, token: str) -> TokenDigest | None:
    """The digest of a text that may be a token of this store, or `None` for any other. Asks no database.

    Raises `InvalidArgument` when the token is not a string.
    """
    if _keeps_clear(store):
        return clear_digest_of(token)
    digest = digest_of(token)
    if digest is None and getattr(store, "has_clear_tokens", False):
        # Imported: the store has only the digest of such a token too.
        clear = clear_digest_of(token)
        return None if clear is None else TokenDigest(bytes(clear))
    return digest


def digest_of_new_for(store: object, secret: str) -> TokenDigest:
    """As `digest_of_new`, in the form that this store needs."""
    return clear_digest_of_new(secret) if _keeps_clear(store) else digest_of_new(secret)


def _keeps_clear(store: object) -> bool:
    """Whether it is a store of the legacy form, which says so by an attribute that others need not have."""
    return getattr(store, "clear_tokens", False)


def _issue(prefix: str) -> str:
    body = ""
    while len(body) < _BODY_LENGTH:
        body += "".join(_ALPHABET[byte % 62] for byte in secrets.token_bytes(64) if byte < _UNIFORM_BELOW)
    text = prefix + body[:_BODY_LENGTH]
    return f"{text}{crc32(text.encode()):08x}"


def _digest(token: str, matches: Callable[[str], object]) -> TokenDigest | None:
    if not isinstance(token, str):
        raise InvalidArgument(f"a token is a string, not {type(token).__name__}")
    if matches(token) is None:
        return None
    encoded = token.encode()
    if crc32(encoded[:-_CHECKSUM_LENGTH]) != int(encoded[-_CHECKSUM_LENGTH:], 16):
        return None
    return TokenDigest(sha256(encoded).digest())
