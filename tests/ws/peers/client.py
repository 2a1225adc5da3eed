"""Python's websockets as a client of the echo server: client.py PORT no|shared|kept"""

import asyncio
import os
import sys

import websockets

PORT, HOW = sys.argv[1:]
URL = f"ws://127.0.0.1:{PORT}/ws"


async def main():
    async with websockets.connect(URL, max_size=None) as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == ([] if HOW == "no" else ["permessage-deflate"]), names
        for size in [*range(0, 140), 1000, 65_535, 65_536, 3_000_000]:
            for message in [os.urandom(size), b"ab" * size, "größe " * (size // 2)]:
                await socket.send(message)
                assert await socket.recv() == message, size
        await socket.send(part for part in ["fr", "ag", "", "ments"])
        assert await socket.recv() == "fragments"
        await (await socket.ping(b"there?"))
        await socket.close(4123, "bye")
        assert (socket.close_code, socket.close_reason) == (4123, ""), socket.close_code
    socket = await websockets.connect(URL, compression=None)
    assert not socket.protocol.extensions
    try:
        await socket.send("x" * (17 << 20))
        await socket.recv()
        raise AssertionError("a message over the limit was echoed")
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == 1009, closed
    print(f"websockets {websockets.__version__}, {HOW}: all echoed")


asyncio.run(main())
