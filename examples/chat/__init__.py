"""A complete chat on the web kit: cookie sessions, sockets that end with them, and a list of one's own devices.

`python -m examples.chat`, or `make serve`, runs it on this machine. It is a demonstration: whoever gives a name has it.
"""
