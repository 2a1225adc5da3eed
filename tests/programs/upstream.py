"""A DNS server for tests: one address for every name but `none.*`; tells what it is asked."""

import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
print("port", server.getsockname()[1])
while True:
    query, asker = server.recvfrom(65535)
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    name, question = ".".join(labels), query[12 : at + 5]
    print("asked", name)
    exists = not name.startswith("none.")
    ttl = 0 if name.startswith("brief.") else 60
    record = bytes.fromhex("c00c00010001") + ttl.to_bytes(4, "big") + b"\0\4" + bytes([192, 0, 2, 1])
    flags = b"\x81\x80" if exists else b"\x81\x83"
    counts = b"\0\1" + (b"\0\1" if exists else b"\0\0") + b"\0\0\0\0"
    if name.startswith("forged."):
        # Another question, another id, an answer that is cut: none of them may be believed.
        bad = record[:-4] + bytes([6, 6, 6, 6])
        other = bytes([query[0] ^ 1]) + query[1:2]
        server.sendto(other + flags + counts + question + bad, asker)
        wrong = question.replace(b"forged", b"charge")
        server.sendto(query[:2] + flags + counts + wrong + bad, asker)
        server.sendto(query[:9], asker)
    server.sendto(query[:2] + flags + counts + question + (record if exists else b""), asker)
