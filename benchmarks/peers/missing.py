"""A peer that cannot be had here."""


class PeerMissing(Exception):
    """Why, and what to install; a run says so and goes on without the peer."""
