"""The version of a legacy row's metadata: made of their text, so that a change by the old application counts as one."""

from hashlib import sha256


def version_of(metadata: str) -> int:
    """A number for a text of metadata: the same for the same text, another one for any other."""
    return version_of_encoded(metadata.encode(errors="surrogatepass"))


def version_of_encoded(metadata: bytes) -> int:
    """The same for its UTF-8."""
    return int.from_bytes(sha256(metadata).digest()[:7])
