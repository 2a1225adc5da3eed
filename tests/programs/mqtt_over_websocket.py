"""Packets of MQTT in frames that do not begin and end with them, and handshakes that are refused."""

import base64
import os
import socket
import struct
import sys

PORT = int(sys.argv[1])
KEY = base64.b64encode(os.urandom(16)).decode()
PLAIN = {
    "Host": f"localhost:{PORT}",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Protocol": "mqtt",
}


def shake_hands(fields, method="GET"):
    """The connection and the status line; the head is sent a byte at a time."""
    peer = socket.create_connection(("localhost", PORT), 60)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = [f"{method} /mqtt HTTP/1.1"] + [f"{name}: {value}" for name, value in fields.items()]
    for byte in ("\r\n".join(lines) + "\r\n\r\n").encode():
        peer.send(bytes([byte]))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1) or sys.exit(f"the head is {head}")
    return peer, head.decode()


def frame(opcode, payload):
    length = len(payload)
    head = bytes([0x80 | opcode])
    head += bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack(">H", length)
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def exactly(peer, count):
    got = b""
    while len(got) < count:
        got += peer.recv(count - len(got)) or sys.exit(f"the end behind {got}")
    return got


def receive(peer):
    """A frame: its opcode and its payload."""
    first, length = exactly(peer, 2)
    if length == 126:
        (length,) = struct.unpack(">H", exactly(peer, 2))
    return first & 15, exactly(peer, length)


def text(word):
    return struct.pack(">H", len(word)) + word.encode()


def packet(first, body):
    size, length = len(body), b""
    while True:
        size, low = size >> 7, size & 127
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([first]) + length + body


# A conversation, whose packets are cut into messages of every size, and come all in one.
payload = os.urandom(300)
conversation = (
    packet(0x10, text("MQTT") + b"\4\2\0\x3c" + text("web"))
    + packet(0x82, b"\0\1" + text("web/#") + b"\1")
    + packet(0x32, text("web/a") + b"\0\2" + payload)
    + packet(0xC0, b"")
)
wanted = [
    b"\x20\2\0\0",
    b"\x90\3\0\1\1",
    packet(0x32, text("web/a") + b"\0\1" + payload),
    b"\x40\2\0\2",
    b"\xd0\0",
]
for size in [1, 2, 3, 7, 64, len(conversation)]:
    peer, head = shake_hands(PLAIN)
    assert head.startswith("HTTP/1.1 101 "), head
    assert "sec-websocket-protocol: mqtt" in head.lower(), head
    for at in range(0, len(conversation), size):
        peer.sendall(frame(2, conversation[at : at + size]))
    for expected in wanted:
        assert receive(peer) == (2, expected), (size, expected)
    peer.sendall(frame(2, packet(0xE0, b"")))
    opcode, code = receive(peer)
    assert (opcode, code) == (8, b"\x03\xe8"), (opcode, code)
    peer.sendall(frame(8, code))
    assert peer.recv(1) == b""

# A text, and what is no MQTT.
peer, _ = shake_hands(PLAIN)
peer.sendall(frame(1, b"hello"))
opcode, said = receive(peer)
assert (opcode, said[:2]) == (8, b"\x03\xeb"), said
peer, _ = shake_hands(PLAIN)
peer.sendall(frame(2, b"\x30\2\0\0"))
try:
    assert peer.recv(1) == b""
except ConnectionResetError:
    pass

# Requests that are refused: without the subprotocol, of a page of another host, and so on.
for change, status in [
    ({"Sec-WebSocket-Protocol": "chat"}, 400),
    ({"Sec-WebSocket-Protocol": None}, 400),
    ({"Origin": "https://elsewhere.example"}, 403),
    ({"Sec-WebSocket-Version": "12"}, 426),
    ({"Upgrade": "h2c"}, 400),
    ({"Host": None}, 400),
    ({"Content-Length": "5"}, 400),
]:
    fields = {**PLAIN, **change}
    peer, head = shake_hands({name: value for name, value in fields.items() if value})
    assert head.startswith(f"HTTP/1.1 {status} "), (change, head)
    assert peer.recv(1) == b"", change
for origin in [f"http://localhost:{PORT}", "http://localhost", "https://LOCALHOST:8443"]:
    peer, head = shake_hands({**PLAIN, "Origin": origin})
    assert head.startswith("HTTP/1.1 101 "), (origin, head)
