"""pymemcache at a server, and raw conversations that must be answered as memcached itself does.

Arguments: the port of the server with 64 MiB, of one with 1 MiB, and of memcached.
"""

import re
import socket
import sys
import time

from pymemcache.client.base import Client

PORT, SMALL, PEER = (int(word) for word in sys.argv[1:4])
KEY, LONG = b"k" * 250, b"k" * 251
TOO_LARGE = b"x" * (2 << 20)


def converse(port, request, in_pieces=False):
    """What comes until the server has closed, which it does when it has answered all."""
    with socket.create_connection(("127.0.0.1", port), 60) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if in_pieces:
            for at in range(len(request)):
                peer.send(request[at : at + 1])
        else:
            peer.sendall(request)
        peer.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := peer.recv(1 << 20):
            answer += piece
        return answer


def masked(answer):
    """Without the number of an item, and the name of the version."""
    answer = re.sub(rb"(VALUE \S+ \d+ \d+) \d+", rb"\1 UNIQUE", answer)
    return re.sub(rb"VERSION \S+", b"VERSION", answer)


# What both answer alike, each on a table without items.
for request in [
    b"get a\r\n",
    b"set a 5 0 3\r\nabc\r\nget a\r\ngets a b a\r\n",
    b"set a 4294967295 0 0\r\n\r\nget a\r\n",
    b"set a 0 0 5\r\n\r\n\r\n\0\r\nget a\r\n",
    b"set " + KEY + b" 0 0 1\r\na\r\nget " + KEY + b"\r\ndelete " + KEY + b"\r\n",
    b"set a 0 0 1\na\r\nget a\n",
    b"  set   a  0 0   1  \r\na\r\n  get  a  \r\n",
    b"add a 1 0 1\r\na\r\nadd a 2 0 1\r\nb\r\nget a\r\n",
    b"replace a 1 0 1\r\na\r\nset a 1 0 1\r\nb\r\nreplace a 2 0 1\r\nc\r\nget a\r\n",
    b"append a 0 0 1\r\nx\r\nset a 3 0 1\r\nb\r\nappend a 9 0 2\r\ncd\r\nprepend a 9 0 1\r\na\r\nget a\r\n",
    b"cas a 0 0 1 1\r\nx\r\nset a 0 0 1\r\na\r\ncas a 0 0 1 18446744073709551615\r\nx\r\nget a\r\n",
    b"set a 0 0 2\r\n10\r\nincr a 5\r\ndecr a 3\r\nget a\r\ndecr a 100\r\nincr a 18446744073709551615\r\nincr a 1\r\n",
    b"incr a 1\r\nset a 0 0 1\r\nx\r\nincr a 1\r\nset a 0 0 1\r\n5\r\nincr a x\r\nincr a -1\r\nincr a\r\n",
    b"set a 0 0 1\r\na\r\ndelete a\r\ndelete a\r\nget a\r\n",
    b"set a 0 0 1\r\na\r\ndelete a 0\r\ndelete a 0 noreply\r\ndelete a 5\r\ndelete\r\n",
    b"set a 0 0 1\r\na\r\ntouch a 100\r\ntouch b 100\r\ntouch a x\r\ntouch a\r\ntouch a -1\r\nget a\r\n",
    b"set a 0 -1 1\r\na\r\nget a\r\nset a 0 2592000 1\r\na\r\nget a\r\nset a 0 2592001 1\r\na\r\nget a\r\n",
    b"set a 0 0 1\r\na\r\nflush_all\r\nget a\r\nset a 0 0 1\r\na\r\nflush_all 100\r\nget a\r\n",
    b"flush_all x\r\nflush_all noreply\r\nflush_all 0 noreply\r\n",
    b"version\r\nverbosity 1\r\nverbosity 1 noreply\r\nverbosity noreply\r\nverbosity\r\nstats noreply\r\n",
    b"incr noreply\r\ntouch noreply\r\nget noreply\r\n",
    b"\r\nfoo\r\nget\r\ngets\r\nfoo noreply\r\nGET a\r\n",
    b"get " + LONG + b"\r\nversion\r\n",
    b"gets a " + LONG + b"\r\nversion\r\n",
    b"incr " + LONG + b" 1\r\ndelete " + LONG + b"\r\ntouch " + LONG + b" 1\r\nversion\r\n",
    b"set a 0 0 1 noreply\r\na\r\nadd a 0 0 1 noreply\r\nb\r\nreplace a 0 0 1 noreply\r\n5\r\n"
    b"append a 0 0 1 noreply\r\n6\r\nincr a 1 noreply\r\ntouch a 0 noreply\r\nget a\r\ndelete a noreply\r\nget a\r\n",
    b"set a 0 0 1\r\na\r\nset a 0 0 2097152\r\n" + TOO_LARGE + b"\r\nget a\r\n",
    b"set a 0 0 1\r\na\r\nadd a 0 0 2097152\r\n" + TOO_LARGE + b"\r\nget a\r\n",
    b"set a 0 0 2097152 noreply\r\n" + TOO_LARGE + b"\r\nget a\r\n",
    b"set a 0 0 3\r\nabcd\nget a\r\n",
    b"get a\r\nquit\r\nget a\r\n",
]:
    answers = []
    for port in (PORT, PEER):
        converse(port, b"flush_all\r\n")
        answers.append(masked(converse(port, request)))
    assert answers[0] == answers[1], (request[:100], answers[0][:300], answers[1][:300])
    if len(request) < 1000:
        converse(PORT, b"flush_all\r\n")
        pieces = masked(converse(PORT, request, in_pieces=True))
        assert pieces == answers[0], (request[:100], pieces, answers[0])

# Where memcached takes a value for commands: it is passed over, or the connection ends.
BAD, OK = b"CLIENT_ERROR bad command line format\r\n", b"OK\r\n"
for request, wanted in [
    (b"set " + LONG + b" 0 0 9\r\nflush_all\r\nverbosity 1\r\n", BAD + OK),
    (b"set a x 0 9\r\nflush_all\r\nverbosity 1\r\n", BAD + OK),
    (b"set a -1 0 9\r\nflush_all\r\nverbosity 1\r\n", BAD + OK),
    (b"set a 0 x 9\r\nflush_all\r\nverbosity 1\r\n", BAD + OK),
    (b"cas a 0 0 9 x\r\nflush_all\r\nverbosity 1\r\n", BAD + OK),
    (b"set a 0 0 9 9\r\nflush_all\r\nverbosity 1\r\n", b"ERROR\r\n" + OK),
    (b"set a 0 0 3\r\nabcdefg\r\nverbosity 1\r\n", b"CLIENT_ERROR bad data chunk\r\n" + OK),
    (b"set a 0 0 3\r\nab\r\nverbosity 1\r\n", b"CLIENT_ERROR bad data chunk\r\n" + OK),
    (b"set a 0 0 -1\r\nflush_all\r\nverbosity 1\r\n", BAD),
    (b"set a 0 0 2147483648\r\nflush_all\r\nverbosity 1\r\n", BAD),
    (b"set a 0 0 99999999999999999999999\r\nflush_all\r\nverbosity 1\r\n", BAD),
    (b"set a 0 0 x\r\nflush_all\r\nverbosity 1\r\n", BAD),
    (b"set a 0 0\r\nflush_all\r\nverbosity 1\r\n", BAD),
    (b"set a 0 0 1073741824\r\nabc", b"SERVER_ERROR object too large for cache\r\n"),
    (b"x" * 100_000, b"CLIENT_ERROR line too long\r\n"),
]:
    answer = converse(PORT, request)
    assert answer == wanted, (request[:100], answer, wanted)
    if len(request) < 1000:
        answer = converse(PORT, request, in_pieces=True)
        assert answer == wanted, (request[:100], answer, wanted)

# Many at once, without answers; many keys of one command.
count = 50_000
request = b"".join(b"set p%d 0 0 6 noreply\r\n%06d\r\n" % (n, n) for n in range(count))
assert converse(PORT, request + b"get p0 p%d\r\n" % (count - 1)) == (
    b"VALUE p0 0 6\r\n000000\r\nVALUE p%d 0 6\r\n%06d\r\nEND\r\n" % (count - 1, count - 1)
)

# Answers that are more than the server holds for a client: they come as they are read.
converse(PORT, b"flush_all\r\n")
value = bytes(range(256)) * 4000
keys = [b"v%d" % number for number in range(40)]
for key in keys:
    assert converse(PORT, b"set %s 7 0 %d\r\n%s\r\n" % (key, len(value), value)) == b"STORED\r\n"
one = lambda key: b"VALUE %s 7 %d\r\n%s\r\n" % (key, len(value), value)
request = b"get " + b" ".join(keys) + b" none\r\nverbosity 1\r\n"
wanted = b"".join(one(key) for key in keys) + b"END\r\nOK\r\n"
assert converse(PORT, request) == wanted
assert converse(PORT, b"get v1\r\n" * 100) == (one(b"v1") + b"END\r\n") * 100

# What has not been used for longest goes first, and the bound holds.
for number in range(100):
    converse(SMALL, b"set a%d 0 0 50000\r\n%s\r\nget a0\r\n" % (number, b"x" * 50_000))
held = [number for number in range(100) if b"VALUE" in converse(SMALL, b"get a%d\r\n" % number)]
assert held[0] == 0 and held[1:] == list(range(held[1], 100)) and 15 <= len(held) <= 21, held
stats = dict(line.split()[1:] for line in converse(SMALL, b"stats\r\n").splitlines()[:-1])
assert int(stats[b"bytes"]) <= int(stats[b"limit_maxbytes"]) == 1 << 20, stats
assert int(stats[b"curr_items"]) == len(held) == 100 - int(stats[b"evictions"]), stats

# pymemcache.
client = Client(("127.0.0.1", PORT), default_noreply=False, timeout=60)
client.flush_all()
assert client.set("a", b"1") and client.get("a") == b"1"
assert not client.add("a", b"2") and client.replace("a", b"3")
assert client.append("a", b"4") and client.prepend("a", b"2") and client.get("a") == b"234"
assert client.incr("a", 1) == 235 and client.decr("a", 5) == 230 and client.incr("none", 1) is None
value, unique = client.gets("a")
assert client.cas("a", b"5", unique) is True and client.cas("a", b"6", unique) is False
assert client.cas("none", b"6", unique) is None
assert client.set_many({f"m{number}": str(number) for number in range(1000)}) == []
found = client.get_many([f"m{number}" for number in range(0, 2000, 2)])
assert found == {f"m{number}": b"%d" % number for number in range(0, 1000, 2)}
assert client.delete("a") and not client.delete("a") and client.get("a") is None
large = bytes(1 << 20)
assert client.set("large", large) and client.get("large") == large
# Relative, of the calendar, past; touched; flushed later.
client.set("soon", b"x", expire=1)
client.set("later", b"x", expire=int(time.time()) + 2)
client.set("past", b"x", expire=int(time.time()) - 10)
client.set("touched", b"x", expire=1)
client.set("flushed", b"x")
assert client.get("past") is None and client.get("soon") == client.get("later") == b"x"
assert client.touch("touched", 100) and not client.touch("none", 1)
deadline = time.monotonic() + 60
while client.get("soon") or client.get("later"):
    assert time.monotonic() < deadline
    time.sleep(0.05)
assert client.get("touched") == client.get("flushed") == b"x"
client.flush_all(delay=1)
while client.get("flushed"):
    assert time.monotonic() < deadline
    time.sleep(0.05)
assert client.version() == b"1.4.0-waterwheel"
assert client.stats()[b"curr_items"] == 0
client.quit()
