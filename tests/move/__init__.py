"""The live move: so far its protocol, checked before any of it is built."""
