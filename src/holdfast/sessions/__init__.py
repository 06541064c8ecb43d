"""What a session is and what may happen to it: the standard library only, and no I/O but through a store."""
