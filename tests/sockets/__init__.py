"""Guarded sockets of real server processes: stopped, frozen, drained, out of handles, and asked by real clients."""
