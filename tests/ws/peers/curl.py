"""libcurl as a client of foreign.rs: curl.py PORT. It does not compress.

It is the libcurl that curl_cffi brings: that of many systems is built without WebSocket.
"""

import os
import sys
import time

from curl_cffi import Curl, CurlError, CurlInfo, CurlOpt
from curl_cffi.const import CurlECode, CurlWsFlag

IN_PARTS = "größe ☃ in parts"
PATIENCE = 10


class Socket:
    """A WebSocket, frame by frame."""

    def __init__(self):
        self.curl = Curl()
        self.curl.setopt(CurlOpt.URL, f"ws://127.0.0.1:{sys.argv[1]}/ws".encode())
        self.curl.setopt(CurlOpt.CONNECT_ONLY, 2)
        self.curl.perform()
        assert self.curl.getinfo(CurlInfo.RESPONSE_CODE) == 101

    def again(self, call):
        """Calls until libcurl does not say "again"."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except CurlError as error:
                if error.code != CurlECode.AGAIN or time.monotonic() > end:
                    raise
                time.sleep(0.001)

    def send(self, content, flags=0):
        kind = CurlWsFlag.TEXT if isinstance(content, str) else CurlWsFlag.BINARY
        content = content.encode() if isinstance(content, str) else content
        sent = self.again(lambda: self.curl.ws_send(content, kind | flags))
        assert sent == len(content), f"{sent} of {len(content)}"

    def frame(self):
        """The payload of the next frame, and its flags."""
        payload = b""
        while True:
            part, frame = self.again(self.curl.ws_recv)
            payload += part
            if frame.bytesleft == 0:
                return payload, frame.flags

    def expect(self, *parts):
        """The next message comes in these frames."""
        kind = CurlWsFlag.TEXT if isinstance(parts[0], str) else CurlWsFlag.BINARY
        for place, part in enumerate(parts):
            payload, flags = self.frame()
            assert payload == (part.encode() if isinstance(part, str) else part), payload[:99]
            assert flags & kind and bool(flags & CurlWsFlag.CONT) == (place < len(parts) - 1), flags


socket = Socket()
for size in [0, 1, 125, 126, 1000, 65_535, 65_536]:
    for message in [os.urandom(size), "ab" * size]:
        socket.send(message)
        socket.expect(message)
socket.send("fr", CurlWsFlag.CONT)
socket.send("agments", CurlWsFlag.CONT)
socket.send("")
socket.expect("fragments")
socket.send("parts")
whole = IN_PARTS.encode()
for kind in (CurlWsFlag.TEXT, CurlWsFlag.BINARY):
    parts = []
    while not parts or parts[-1][1] & CurlWsFlag.CONT:
        parts.append(socket.frame())
    assert len(parts) == 3 and all(flags & kind for _, flags in parts), parts
    assert b"".join(part for part, _ in parts) == whole, parts
# It keeps its answer to a ping until it sends something.
socket.send("ping")
socket.send("behind the ping")
socket.expect("behind the ping")
socket.send("behind the answer")
socket.expect("pong")
socket.expect("behind the answer")
socket.send("close 4001 enough")
payload, flags = socket.frame()
assert flags & CurlWsFlag.CLOSE and payload == (4001).to_bytes(2, "big") + b"enough", payload
print("libcurl: all echoed")
