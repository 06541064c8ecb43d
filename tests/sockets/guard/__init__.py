"""Guarded sockets, from outside: a real client, a real port."""
