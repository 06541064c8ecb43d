"""A client process that reads its sockets as fast as it can, until a test freezes it: `python -m tests.sockets.reader`.

Arguments: the address, a token, and how many sockets. It says `reading` once all of them receive.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(address: str, token: str, number: int) -> None:
    """Read until the end."""
    receiving = 0

    async def read() -> None:
        nonlocal receiving
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(address, additional_headers=headers, proxy=None, max_queue=1) as client:
            try:
                await client.recv()
                receiving += 1
                if receiving == number:
                    sys.stdout.write("reading\n")
                    sys.stdout.flush()
                while True:
                    await client.recv()
            except ConnectionClosed:
                return

    await asyncio.gather(*(read() for _ in range(number)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
