"""How long a client of a real server keeps a connection that it does not use."""

from typing import Final

import httpx2

KEPT: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=1.0)
"""Shorter than the server does: both keep it for five seconds by default, and a request that is sent at the moment at
which the server gives the connection up has no answer."""
FRESH: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=0)
"""None is kept, for a client of a server that is kept from its processor for seconds."""
