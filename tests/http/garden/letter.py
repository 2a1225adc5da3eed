"""A reader of HTTP/1 by the letter of RFC 9112. As a program: a server that echoes bodies, and
that tells what came which no proxy should pass on."""

import asyncio
import re
import sys

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# With the marks that browsers do not escape.
CHARS = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]^`{|}]|%[0-9A-Fa-f]{2})"
HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
TEXT = rb"[\t \x21-\x7e\x80-\xff]"
QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\' + TEXT + rb')*"'
VALUE = rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + QUOTED + rb"))?"
SIZE = rb"([0-9A-Fa-f]+)(?:[ \t]*;[ \t]*" + TOKEN + VALUE + rb")*"


class Malformed(Exception):
    """What the letter does not take."""


def need(condition, why):
    if not condition:
        raise Malformed(why)


def field(line):
    found = re.fullmatch(rb"(" + TOKEN + rb"):[\t ]*(" + TEXT + rb"*?)[\t ]*", line)
    need(found, "a field (5)")
    return found[1].lower(), found[2]


def chunks(data):
    """The body and how long it is as it was sent; None if more is to come."""
    body, at = b"", 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            begun = rb"[0-9A-Fa-f]*" + TEXT + rb"*\r?"
            need(re.fullmatch(begun, data[at:]), "the size of a chunk (7.1)")
            return None
        found = re.fullmatch(SIZE, data[at:end])
        need(found, "the size of a chunk (7.1)")
        size, at = int(found[1], 16), end + 2
        if size == 0:
            break
        need(b"\r\n".startswith(data[at + size : at + size + 2]), "the end of a chunk (7.1)")
        if len(data) < at + size + 2:
            return None
        body, at = body + data[at : at + size], at + size + 2
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if end == at:
            return body, at + 2
        field(data[at:end])
        at = end + 2


def request(data):
    """The first request: its line, its body, how long it is, and whether it is the last; None if
    more of it is to come."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    line, *fields = data[:end].split(b"\r\n")
    found = re.fullmatch(rb"(" + TOKEN + rb") ([^ ]+) HTTP/1\.([0-9])", line)
    need(found, "the request line (3)")
    method, target, is_old = found[1], found[2], found[3] == b"0"
    if target == b"*":
        need(method == b"OPTIONS", "the target (3.2.4)")
    else:
        form = rb"(?:(?i:https?)://" + HOST + rb"(?:[/?]" + CHARS + rb"*)?|/" + CHARS + rb"*)"
        need(re.fullmatch(form, target), "the target (3.2)")
    fields = [field(it) for it in fields]
    values = lambda name: [value for key, value in fields if key == name]
    hosts, lengths = values(b"host"), values(b"content-length")
    codings, options = values(b"transfer-encoding"), b",".join(values(b"connection")).lower()
    need(len(hosts) == 1 or is_old and not hosts, "no or more than one Host (3.2)")
    need(not hosts or re.fullmatch(HOST, hosts[0]), "Host (3.2)")
    need(len(lengths) + len(codings) <= 1, "the length of the body (6.3)")
    need(not lengths or re.fullmatch(rb"\d+", lengths[0]), "Content-Length (6.3)")
    need(not codings or codings[0].lower() == b"chunked" and not is_old, "the coding (6.1)")
    rest = data[end + 4 :]
    if codings:
        taken = chunks(rest)
        if taken is None:
            return None
        body, length = taken
    else:
        length = int(lengths[0]) if lengths else 0
        body = rest[:length]
        if len(body) < length:
            return None
    options = [it.strip(b" \t") for it in options.split(b",")]
    is_last = b"close" in options or is_old and b"keep-alive" not in options
    return line, body, end + 4 + length, is_last


def bodies(data):
    """The bodies of the requests, as far as the letter takes them; whether it takes all."""
    found = []
    while True:
        while data.startswith(b"\r\n"):
            data = data[2:]
        if not data:
            return found, True
        try:
            taken = request(data)
        except Malformed:
            return found, False
        if taken is None:
            return found, False
        _, body, length, is_last = taken
        found.append(body)
        data = data[length:]
        if is_last:
            return found, not data


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while self.data:
            try:
                taken = request(self.data)
            except Malformed as why:
                # Of haproxy 2.6 and nginx 1.22 it is known that they pass some on.
                is_ours = b"\r\nVia: 1.1 waterwheel\r\n" in self.data
                if is_ours:
                    print(f"{why}: {self.data[:300]!r}", file=sys.stderr, flush=True)
                self.transport.write(b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n")
                return self.transport.close()
            if taken is None:
                return
            line, body, length, _ = taken
            self.data = self.data[length:]
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.transport.write(head if line.startswith(b"HEAD ") else head + body)


async def serve(port):
    loop = asyncio.get_running_loop()
    await (await loop.create_server(Echo, "127.0.0.1", port, backlog=4096)).serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
