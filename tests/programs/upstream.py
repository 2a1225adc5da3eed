"""A DNS server for tests: one address for every name but `none.*`, and 200 for `long.*`, which only
TCP has room for; tells what it is asked."""

import socket
import threading


def reply(query, is_tcp):
    """The answer, and the name that was asked for."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    name, question = ".".join(labels), query[12 : at + 5]
    print("asked", name, "by TCP" if is_tcp else "by UDP")
    exists = not name.startswith("none.")
    ttl = 0 if name.startswith("brief.") else 60
    flags = b"\x81\x80" if exists else b"\x81\x83"
    last_bytes = range(1, 201) if name.startswith("long.") else [1]
    if not exists:
        last_bytes = []
    elif len(last_bytes) > 1 and not is_tcp:
        flags, last_bytes = b"\x83\x80", []
    counts = b"\0\1" + len(last_bytes).to_bytes(2, "big") + b"\0\0\0\0"
    records = [
        bytes.fromhex("c00c00010001") + ttl.to_bytes(4, "big") + b"\0\4" + bytes([192, 0, 2, last])
        for last in last_bytes
    ]
    return query[:2] + flags + counts + question + b"".join(records), name


def over_tcp():
    while True:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as stream:
            query = stream.read(int.from_bytes(stream.read(2), "big"))
            answer, _ = reply(query, True)
            peer.sendall(len(answer).to_bytes(2, "big") + answer)


listener = socket.create_server(("127.0.0.1", 0))
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(listener.getsockname())
threading.Thread(target=over_tcp, daemon=True).start()
print("port", server.getsockname()[1])
while True:
    query, asker = server.recvfrom(65535)
    answer, name = reply(query, False)
    if name.startswith("forged."):
        # Another question, another id, an answer that is cut: none of them may be believed.
        bad = answer[:-4] + bytes([6, 6, 6, 6])
        server.sendto(bytes([query[0] ^ 1]) + bad[1:], asker)
        server.sendto(bad.replace(b"forged", b"charge"), asker)
        server.sendto(query[:9], asker)
    server.sendto(answer, asker)
