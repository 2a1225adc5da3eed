"""Python's websockets as a client of foreign.rs: client.py PORT no|shared|kept"""

import asyncio
import os
import sys

import websockets

PORT, HOW = sys.argv[1:]
URL = f"ws://127.0.0.1:{PORT}/ws"
IN_PARTS = "größe ☃ in parts"


async def speak():
    async with websockets.connect(URL, max_size=None) as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == ([] if HOW == "no" else ["permessage-deflate"]), names
        for size in [*range(0, 140), 1000, 65_535, 65_536, 3_000_000]:
            for message in [os.urandom(size), b"ab" * size, "größe " * (size // 2)]:
                await socket.send(message)
                assert await socket.recv() == message, size
        for parts in (["fr", "ag", "", "ments"], [b"fr", b"ag", b"", b"ments"]):
            await socket.send(part for part in parts)
            assert await socket.recv() == parts[0] + parts[1] + parts[3]
        await socket.send("parts")
        for whole in (IN_PARTS, IN_PARTS.encode()):
            parts = [part async for part in socket.recv_streaming()]
            assert len(parts) == 3 and whole[:0].join(parts) == whole, parts
        await (await socket.ping(b"there?"))
        await socket.send("ping")
        assert await socket.recv() == "pong"
        await socket.close(4123, "bye")
        assert (socket.close_code, socket.close_reason) == (4123, ""), socket.close_code


async def be_closed(message):
    """The code and the reason of the Close frame that a message is answered with."""
    socket = await websockets.connect(URL, compression=None)
    assert not socket.protocol.extensions
    try:
        await socket.send(message)
        raise AssertionError(f"an answer: {await socket.recv()}")
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code, closed.rcvd.reason


async def main():
    await speak()
    assert await be_closed("close 4001 enough") == (4001, "enough")
    code, _ = await be_closed("x" * (17 << 20))
    assert code == 1009, "a message over the limit"
    print(f"websockets {websockets.__version__}, {HOW}: all echoed")


asyncio.run(main())
