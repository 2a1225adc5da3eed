"""A client of Python's ssl: `client.py PORT CERTS`. What it says is echoed; the server counts on."""

import hashlib
import os
import select
import socket
import ssl
import sys

port, certs = int(sys.argv[1]), sys.argv[2]
LOTS = 100 << 20


def context(version):
    made = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    made.minimum_version = made.maximum_version = version
    made.load_cert_chain(f"{certs}/client.pem", f"{certs}/client.key")
    made.set_alpn_protocols(["echo"])
    return made


def dial(made, name="b.example", session=None):
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)
    return made.wrap_socket(plain, server_hostname=name, session=session)


def say(stream, text):
    stream.sendall(text)
    answer = b""
    while len(answer) < len(text):
        piece = stream.recv(1 << 16)
        assert piece, f"the end after {answer!r}"
        answer += piece
    assert answer == text, answer


def full_and_resumed(version):
    made = context(version)
    stream = dial(made)
    say(stream, b"one")
    assert stream.selected_alpn_protocol() == "echo" and not stream.session_reused
    session = stream.session
    stream.unwrap()  # both sides say close_notify
    stream = dial(made, session=session)
    say(stream, b"two")
    assert stream.session_reused, "the session is not resumed"
    stream.unwrap()


def lots_both_ways(version):
    """Reads while it writes, on one thread: an SSLSocket is not for two at once."""
    stream = dial(context(version))
    stream.setblocking(False)
    data = memoryview(os.urandom(1 << 20) * (LOTS >> 20))
    seen, count, sent = hashlib.sha256(), 0, 0
    while True:
        if not stream.pending():
            select.select([stream], [stream] if sent < LOTS else [], [], 60)
        try:
            if sent < LOTS:
                sent += stream.send(data[sent:sent + (1 << 16)])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            piece = stream.recv(1 << 16)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            continue
        if not piece:
            break
        seen.update(piece)
        count += len(piece)
    assert count == LOTS and seen.digest() == hashlib.sha256(data).digest(), f"{count} bytes"


def half_closed(version):
    """All is said, and its end, before anything is read."""
    made, incoming, outgoing = context(version), ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = made.wrap_bio(incoming, outgoing, server_hostname="b.example")
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)

    def until_done(step, may_say=True):
        while True:
            try:
                result = step()
                if may_say:
                    plain.sendall(outgoing.read())
                return result
            except ssl.SSLWantReadError:
                if may_say:
                    plain.sendall(outgoing.read())
                piece = plain.recv(1 << 16)
                incoming.write(piece) if piece else incoming.write_eof()

    until_done(tls.do_handshake)
    data = os.urandom(1 << 20) * 2
    until_done(lambda: tls.write(data))
    try:
        tls.unwrap()
    except (ssl.SSLWantReadError, ssl.SSLError):
        pass  # its own end is said, and there is more to read than the other one
    plain.sendall(outgoing.read())
    plain.shutdown(socket.SHUT_WR)
    answer = b""
    try:
        while piece := until_done(lambda: tls.read(1 << 16), False):
            answer += piece
    except ssl.SSLZeroReturnError:
        pass  # the server's own end
    assert answer == data, f"{len(answer)} bytes came back"


def wrong_name():
    try:
        dial(context(ssl.TLSVersion.TLSv1_3), "wrong.example")
    except ssl.SSLCertVerificationError:
        return
    raise SystemExit("a certificate of another name was taken")


for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    full_and_resumed(version)
    lots_both_ways(version)
    half_closed(version)
wrong_name()
