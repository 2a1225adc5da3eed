"""A client of GnuTLS: `gnutls.py PORT CERTS`. What it says is echoed; the server counts on.

The library itself, and not `gnutls-cli`, which knows no half-close: behind `close_notify` it closes
its socket. The constants are those of `gnutls/gnutls.h`.
"""

import ctypes
import hashlib
import os
import select
import socket
import sys

port, certs = int(sys.argv[1]), sys.argv[2].encode()
LOTS = 100 << 20
RECORD = 16 << 10

lib = ctypes.CDLL("libgnutls.so.30")
for function in (lib.gnutls_record_send, lib.gnutls_record_recv):
    function.restype = ctypes.c_ssize_t
lib.gnutls_strerror.restype = ctypes.c_char_p

CLIENT, NONBLOCK, DNS, PEM, CERTIFICATE = 2, 1 << 3, 1, 1, 1
SHUT_RDWR, SHUT_WR, AGAIN, INTERRUPTED = 0, 1, -28, -52


class Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint)]

    def bytes(self):
        return ctypes.string_at(self.data, self.size)


def checked(result):
    if result < 0:
        raise SystemExit(f"GnuTLS: {lib.gnutls_strerror(int(result)).decode()}")
    return result


def patiently(function, *args):
    """Until the call is done, on a socket that blocks."""
    while (result := function(*args)) in (AGAIN, INTERRUPTED):
        pass
    return checked(result)


credentials = ctypes.c_void_p()
checked(lib.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)))
checked(lib.gnutls_certificate_set_x509_trust_file(credentials, certs + b"/ca.pem", PEM))
checked(lib.gnutls_certificate_set_x509_key_file(
    credentials, certs + b"/client.pem", certs + b"/client.key", PEM))


class Stream:
    """A connection whose handshake is done: with a name, a protocol, and a certificate."""

    def __init__(self, version, name=b"b.example", data=None, flags=0):
        self.plain = socket.create_connection(("127.0.0.1", port), timeout=None)
        self.plain.settimeout(None)
        self.session = ctypes.c_void_p()
        checked(lib.gnutls_init(ctypes.byref(self.session), CLIENT | flags))
        priority = b"NORMAL:-VERS-ALL:+VERS-TLS" + version
        checked(lib.gnutls_priority_set_direct(self.session, priority, None))
        checked(lib.gnutls_credentials_set(self.session, CERTIFICATE, credentials))
        checked(lib.gnutls_server_name_set(self.session, DNS, name, ctypes.c_size_t(len(name))))
        lib.gnutls_session_set_verify_cert(self.session, name, 0)
        self.offer = ctypes.create_string_buffer(b"echo")
        offer = Datum(ctypes.addressof(self.offer), 4)
        checked(lib.gnutls_alpn_set_protocols(self.session, ctypes.byref(offer), 1, 0))
        if data is not None:
            checked(lib.gnutls_session_set_data(self.session, data, ctypes.c_size_t(len(data))))
        fd = self.plain.fileno()
        lib.gnutls_transport_set_int2(self.session, fd, fd)
        self.plain.setblocking(True)
        patiently(lib.gnutls_handshake, self.session)
        chosen = Datum()
        checked(lib.gnutls_alpn_get_selected_protocol(self.session, ctypes.byref(chosen)))
        assert chosen.bytes() == b"echo", chosen.bytes()

    def say(self, text):
        """What is said must come back."""
        patiently(lib.gnutls_record_send, self.session, text, ctypes.c_size_t(len(text)))
        answer = b""
        while len(answer) < len(text):
            piece = self.hear()
            assert piece, f"the end after {answer!r}"
            answer += piece
        assert answer == text, answer

    def hear(self):
        """What comes next; nothing at the end, which must be said and not only be there."""
        room = ctypes.create_string_buffer(RECORD)
        count = patiently(lib.gnutls_record_recv, self.session, room, ctypes.c_size_t(RECORD))
        return room.raw[:count]

    def end(self, how):
        patiently(lib.gnutls_bye, self.session, how)

    def close(self):
        lib.gnutls_deinit(self.session)
        self.plain.close()


def full_and_resumed(version):
    stream = Stream(version)
    stream.say(b"one")
    assert not lib.gnutls_session_is_resumed(stream.session)
    data = Datum()
    checked(lib.gnutls_session_get_data2(stream.session, ctypes.byref(data)))
    stream.end(SHUT_RDWR)  # both sides say close_notify
    stream.close()
    stream = Stream(version, data=data.bytes())
    stream.say(b"two")
    assert lib.gnutls_session_is_resumed(stream.session), "the session is not resumed"
    stream.end(SHUT_RDWR)
    stream.close()


def lots_both_ways(version):
    """Reads while it writes, on one thread."""
    stream = Stream(version, flags=NONBLOCK)
    stream.plain.setblocking(False)
    data = os.urandom(1 << 20) * (LOTS >> 20)
    start = ctypes.cast(data, ctypes.c_void_p).value
    room = ctypes.create_string_buffer(RECORD)
    seen, count, sent = hashlib.sha256(), 0, 0
    while True:
        if not lib.gnutls_record_check_pending(stream.session):
            select.select([stream.plain], [stream.plain] if sent < LOTS else [], [], 60)
        if sent < LOTS:
            piece = ctypes.c_size_t(min(RECORD, LOTS - sent))
            # After AGAIN the same bytes must be said again.
            done = lib.gnutls_record_send(stream.session, ctypes.c_void_p(start + sent), piece)
            if done not in (AGAIN, INTERRUPTED):
                sent += checked(done)
        done = lib.gnutls_record_recv(stream.session, room, ctypes.c_size_t(RECORD))
        if done in (AGAIN, INTERRUPTED):
            continue
        if checked(done) == 0:
            break
        seen.update(room.raw[:done])
        count += done
    assert count == LOTS and seen.digest() == hashlib.sha256(data).digest(), f"{count} bytes"
    stream.close()


def half_closed(version):
    """All is said, and its end, before anything is read."""
    stream, data = Stream(version), os.urandom(1 << 20) * 2
    for at in range(0, len(data), RECORD):
        piece = data[at:at + RECORD]
        patiently(lib.gnutls_record_send, stream.session, piece, ctypes.c_size_t(len(piece)))
    stream.end(SHUT_WR)
    stream.plain.shutdown(socket.SHUT_WR)
    answer = b""
    while piece := stream.hear():
        answer += piece
    assert answer == data, f"{len(answer)} bytes came back"
    stream.close()


for version in (b"1.2", b"1.3"):
    full_and_resumed(version)
    lots_both_ways(version)
    half_closed(version)
