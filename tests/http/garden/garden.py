"""Sends messages that two readers may understand differently to all readers, and compares what they
took with what the letter takes: garden.py NAME=PORT... [all] [FILE...]"""

import ast
import asyncio
import random
import re
import sys

from letter import bodies

# Behind each message: it shows where a reader takes the message to end, and has it close.
LAST = b"POST /s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nLAST"

PLAIN = b"POST /g HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nA: b\r\n\r\nhello"
CHUNKED = (b"POST /g HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"5;a=b\r\nhello\r\n0\r\nT: v\r\n\r\n")
GET = b"GET /g?q=%41 HTTP/1.1\r\nHost: x:80\r\nConnection: keep-alive\r\n\r\n"
OLD = b"GET http://x/g HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
MESSAGES = [PLAIN, CHUNKED, GET, OLD]
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"

BYTES = [bytes([byte]) for byte in (*range(0x21), *b'"#%+,-./0159:;<=>?@AafxXZ[\\]^_`{|}~',
                                    0x7F, 0x80, 0x85, 0xA0, 0xC2, 0xFF)]
RUNS = [b"\r\n", b"\r\n ", b"\n\r", b"\r\r\n", b"\r\n\r\n", b"\xc2\xa0", b"  ", b"\0\r\n"]

# Why a peer may take less than the letter does.
REASONS = [
    ("nginx", rb":[^\r]*\t", "tabs beside values are white space (RFC 9110, 5.6.3)"),
    ("nginx", rb"^OPTIONS \* ", "it has no * (RFC 9112, 3.2.4)"),
    ("haproxy", rb"^\w+ http://[^ /]*\?", "no slash is wanted before a query (RFC 3986, 3.2)"),
    ("haproxy", rb"HTTP/1.0\r\n(.*\r\n)?content-length:\s*[1-9]",
     "a body of GET may be refused (RFC 9110, 9.3.1)"),
    ("haproxy", rb"upgrade: *websocket", "a field Upgrade may be ignored (RFC 9110, 7.8)"),
    ("nginx haproxy", rb"^(?!(GET|POST|PUT|DELETE|PATCH|OPTIONS) )", "a method that it does not know"),
]


def tables():
    """Lengths, codings, chunks and fields, each in the ways in which they were misread somewhere."""
    head = b"POST /g HTTP/1.1\r\nHost: x\r\n"
    coding = b"Transfer-Encoding"
    lines = [name + b": chunked" for name in (
        coding, b"transfer-encoding", coding + b" ", coding + b"\t", b" " + coding,
        b"Transfer_Encoding", b"Transfer Encoding", coding + b"\0", b"\0" + coding, coding + b"\x0b",
        b"X: y\r" + coding, b"X: y\n" + coding, b"X: y\r\n " + coding, b"Transfer-\r\n Encoding",
        b'"' + coding + b'"', coding + b"\x85")]
    lines += [coding + b":" + value for value in (
        b"chunked", b"\tchunked", b" chunked ", b"\x0bchunked", b"\x0cchunked", b"\0chunked",
        b"chunked\0", b"chunked\r", b" chunked, identity", b" identity, chunked",
        b" chunked, chunked", b" ,chunked", b" chunked,", b" xchunked", b" chunkedx", b" CHUNKED",
        b' "chunked"', b" chunked;q=1", b" gzip, chunked", b"\r\n chunked", b"\n chunked",
        b"\x85chunked", b"\xa0chunked\xa0", b" identity", b" ", b" cow",
        b" chunked\r\n" + coding + b": cow", b" cow\r\n" + coding + b": chunked",
        b" chunked\r\n" + coding + b": chunked", b" chunked\r\n" + coding + b":")]
    for line in lines:
        for length, body in ((len(HIDDEN) + 5, b"0\r\n\r\n" + HIDDEN),
                             (4, b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN))):
            other = b"Content-Length: %d\r\n" % length
            for fields in (line + b"\r\n", line + b"\r\n" + other, other + line + b"\r\n"):
                yield head + fields + b"\r\n" + body
    for value in (b"5", b"+5", b"-5", b"05", b" 5 ", b"\t5", b"5\t", b"5,5", b"5, 5", b"5;", b"5a",
                  b"0x5", b"5_", b"5.0", b"5e0", b'"5"', b"", b"\x005", b"5\0", b"5\r", b"\x0b5",
                  b"5\xa0", b"\xb2", b"5\r\n 0", b"5\r\nContent-Length: 5",
                  b"5\r\nContent-Length: 0", b"0\r\nContent-Length: 5", b"5\nContent-Length: 0",
                  b"18446744073709551621", b"4294967301", b"5 5", b"1 0", b"5\r\nContent-Length:",
                  b"5\r\nContent_Length: 0", b"5\r\nContent-Length : 0", b"0", b"-0", b"00"):
        for method in (b"POST", b"GET", b"DELETE", b"OPTIONS"):
            for version in (b"1.1", b"1.0"):
                yield (method + b" /g HTTP/" + version + b"\r\nHost: x\r\nConnection: keep-alive\r\n"
                       b"Content-Length:" + value + b"\r\n\r\nhello")
    head += coding + b": chunked\r\n\r\n"
    for size in (b"5", b"05", b"5;", b"5;a", b"5;a=b", b'5;a="b"', b"5 ;a", b"5; a", b"5 ", b" 5",
                 b"+5", b"-5", b"0x5", b"5x", b"5_", b"5\r", b"5\n", b"\r\n5", b"5;a\n", b"5;a=b\r",
                 b'5;a="\r\n"', b"5;\0", b"5\0", b"5\xa0", b"00000000000000005", b"10000000000000005",
                 b"ffffffffffffffff", b"100000005", b"5,", b"5;a=", b"5;=", b"5;;", b'5;a="', b""):
        for end in (b"\r\n", b"\n", b"\r"):
            for last in (b"0\r\n\r\n", b"0\n\n", b"0\r\n\n", b"00\r\n\r\n", b"0\r\nT: v\r\n\r\n",
                         b"0\r\nT : v\r\n\r\n", b"0\r\nT\r\n\r\n", b"0\r\nT: v\n\r\n", b"-0\r\n\r\n",
                         b"0\r\nContent-Length: 3\r\n\r\n", b"0 \r\n\r\n", b"\r\n\r\n",
                         b"0\r\nX:GET /hidden HTTP/1.1\r\n\r\n"):
                yield head + size + end + b"hello\r\n" + last
    for end in (b"\r\n", b"\n", b"\r", b"", b"X\r\n", b"\r\r\n", b"\r\n\r\n", b" \r\n"):
        yield head + b"5\r\nhello" + end + b"0\r\n\r\n"
    for host in (b"x", b"x:", b"x:+1", b"x: 80", b".", b"a..b", b"x,y", b"u@x", b"x/", b"x?y", b"x#y",
                 b"[::1]", b"[::1", b"%", b"%zz", b"%41", b"x\0", b"x\ty", b"", b"\xff", b"x|y",
                 b"x\r\nHost: y", b"x\r\nhost: x", b"x\r\nHost:", b"x\r\nHost : y"):
        yield b"GET /g HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        yield b"GET http://x/g HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"


def near(messages, inserted):
    """Each byte of a message left out, replaced, and others put before it."""
    for message in messages:
        for at in range(len(message)):
            yield message[:at] + message[at + 1 :]
            for byte in inserted:
                yield message[:at] + byte + message[at + 1 :]
                yield message[:at] + byte + message[at:]


def mixed(count, seed):
    """Several changes to one or two messages."""
    chance = random.Random(seed)
    lines = [b"Content-Length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked", b": ",
             b"Transfer-Encoding: identity", b"Connection: close", b"Connection: keep-alive"]
    for _ in range(count):
        text = b"".join(chance.choice(MESSAGES) for _ in range(chance.randint(1, 2)))
        for _ in range(chance.randint(1, 3)):
            at, to = sorted(chance.randrange(len(text)) for _ in range(2))
            piece = chance.choice((bytes([chance.randrange(256)]), *RUNS, b"\r", b"\n", b"\0", b":"))
            head, _, body = text.partition(b"\r\n\r\n")
            line = chance.choice(lines)
            text = chance.choice((
                text[:at] + text[at + 1 :],
                text[:at] + piece + text[at:],
                text[:at] + piece + text[at + 1 :],
                text[:to] + text[at:to] + text[to:],
                head + b"\r\n" + line + b"\r\n\r\n" + body,
                head.replace(b"\r\n", b"\r\n" + line + b"\r\n", 1) + b"\r\n\r\n" + body,
            )) or PLAIN
        yield text


def of_file(name):
    """The messages in backquotes behind the word Payload, whose paths all readers echo."""
    for line in open(name, encoding="utf-8"):
        spans = re.findall(r"`([^`]+)`", line) if "Payload:" in line else []
        text = b"".join(ast.literal_eval("b'''" + it.replace("'", "\\'") + "'''") for it in spans)
        if text:
            yield text.replace(b" / HTTP", b" /g HTTP")


def answers(data):
    """The bodies of the answers that are none of a failure, up to the first one that is; whether
    there is one."""
    found = []
    while True:
        head, is_there, rest = data.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 (\d{3})", head)
        if not is_there or not status or int(status[1]) >= 400:
            return found, bool(status)
        data = rest
        if int(status[1]) < 200:
            continue
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length:
            found.append(data[: int(length[1])])
            data = data[int(length[1]) :]
            continue
        body = b""
        while True:
            size, _, data = data.partition(b"\r\n")
            count = int(size or b"0", 16)
            body, data = body + data[:count], data[count + 2 :]
            if count == 0:
                break
        found.append(body)


async def ask(port, source, data):
    """What comes back; a reader that waits for more gets two seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    got = b""
    try:
        writer.write(data)
        while piece := await asyncio.wait_for(reader.read(1 << 16), 2):
            got += piece
    except (TimeoutError, asyncio.TimeoutError, ConnectionError):
        pass
    writer.close()
    return answers(got)


INDEX = b"<!doctype html>"


def without_early(took, letter):
    """What was taken, without an index page at the end that is more than the letter takes: web sends
    it for a head, whatever becomes of the body."""
    is_early = len(took) == len(letter) + 1 and took[-1].startswith(INDEX)
    return took[:-1] if is_early else took


def same(took, letter):
    """Whether it is the beginning of what the letter takes. The index page of web is no echo."""
    pairs = zip(took, letter)
    return len(took) <= len(letter) and all(a == b or a.startswith(INDEX) for a, b in pairs)


class Verdict:
    def __init__(self, names):
        self.names, self.faults, self.less = names, [], {}
        self.same = self.taken = self.refused = 0

    def look(self, message, seen):
        letter, is_whole = bodies(message + LAST)
        ours = without_early(seen["web"][0], letter)
        seen = {**seen, "web": (ours, seen["web"][1])}
        agree = len(ours) == len(letter) and same(ours, letter)
        self.same += agree
        self.taken += bool(ours)
        self.refused += len(ours) < len(letter)
        for name, (took, _) in seen.items():
            if same(took, letter):
                continue
            is_ours = name == "web" or name.startswith("proxy-")
            if is_ours or is_whole:
                self.faults.append((name, took, letter, message))
        if not is_whole or not agree:
            return
        for name in ("nginx", "haproxy"):
            took, has_refused = seen[name]
            if len(took) < len(ours) and has_refused:
                why = [it for who, pattern, it in REASONS
                       if name in who and re.search(pattern, message, re.I | re.S)]
                if not why:
                    self.faults.append((name, took, "more", message))
                key = (name, why[0] if why else "?")
                self.less[key] = self.less.get(key, 0) + 1


async def compare(messages, readers, verdict):
    rest = iter(enumerate(messages))

    async def work(number):
        for at, message in rest:
            source = f"127.0.{1 + at % 200}.{1 + number}"
            tasks = [ask(port, source, message + LAST) for port in readers.values()]
            verdict.look(message, dict(zip(readers, await asyncio.gather(*tasks))))

    await asyncio.gather(*(work(number) for number in range(60)))


def main():
    readers = {name: int(port) for name, port in (it.split("=") for it in sys.argv[1:] if "=" in it)}
    files = [it for it in sys.argv[1:] if "=" not in it and it != "all"]
    is_all = "all" in sys.argv
    messages = [*tables(), *near([PLAIN, CHUNKED], [b"\0", b"\n", b" "]), *mixed(1_000, 1)]
    if is_all:
        messages += [*near(MESSAGES, BYTES + RUNS), *mixed(20_000, 2)]
    for name in files:
        messages += of_file(name)
    messages = list(dict.fromkeys(messages))
    verdict = Verdict(readers)
    asyncio.run(compare(messages, readers, verdict))
    print(f"{len(messages)} messages to {len(readers)} readers: web does with "
          f"{verdict.same} what the letter does ({verdict.taken} have a request that is taken), and "
          f"refuses {verdict.refused} that the letter takes; {len(verdict.faults)} faults")
    for (name, why), count in sorted(verdict.less.items()):
        print(f"{name} refuses {count} of those: {why}")
    for name, took, letter, message in verdict.faults[:20]:
        print(f"FAULT {name}: took {took}, by the letter {letter}: {message!r}", file=sys.stderr)
    sys.exit(bool(verdict.faults) or verdict.taken < 50)


main()
