"""Python's websockets as an echo server: server.py PORT. What it is told to do is in foreign.rs."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError

IN_PARTS = "größe ☃ in parts"


async def serve_one(socket):
    try:
        await echo(socket)
    except ConnectionClosedError:
        pass  # with a code that is not 1000 or 1001, as is asked for


async def echo(socket):
    async for message in socket:
        if message == "parts":
            for whole in (IN_PARTS, IN_PARTS.encode()):
                await socket.send(part for part in (whole[:3], whole[3:9], whole[9:]))
        elif message == "ping":
            await (await socket.ping("there?"))
            await socket.send("pong")
        elif isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split()
            await socket.close(int(code), reason)
            return
        else:
            await socket.send(message)


async def main():
    async with serve(serve_one, "127.0.0.1", int(sys.argv[1]), max_size=None) as server:
        await server.serve_forever()


asyncio.run(main())
