"""A page in Chromium as a client of foreign.rs: page.py CHROMIUM PORT no|shared|kept

The page speaks with that server, and tells the server that it came from how it went. A page sends
no fragments and no pings; it gets them.
"""

import http.server
import queue
import subprocess
import sys
import tempfile
import threading

CHROMIUM, PORT, HOW = sys.argv[1:]

PAGE = """<!doctype html><title>echo</title><script>
const how = "%HOW%";
const url = "ws://127.0.0.1:%PORT%/ws";
const inParts = "gr\u00f6\u00dfe \u2603 in parts";
// What is sent, and what is to come.
const steps = [];
for (const size of [0, 1, 125, 126, 1000, 65535, 65536, 1000000]) {
    for (const whole of ["gr\u00f6\u00dfe ".repeat(size), new Uint8Array(size).fill(7)]) {
        steps.push([whole, [whole]]);
    }
}
steps.push(["parts", [inParts, new TextEncoder().encode(inParts)]], ["ping", ["pong"]]);
let at = -1, expected = [];
const socket = new WebSocket(url);
socket.binaryType = "arraybuffer";
const say = (text) => fetch("/told", { method: "POST", body: text });
const next = () => {
    at += 1;
    if (at === steps.length) { socket.close(4000, "bye"); return; }
    expected = [...steps[at][1]];
    socket.send(steps[at][0]);
};
socket.onopen = () => {
    if (socket.extensions.includes("permessage-deflate") !== (how !== "no")) {
        say("extensions: " + socket.extensions);
    } else {
        next();
    }
};
const isSame = (wanted, data) => typeof wanted === "string"
    ? data === wanted
    : data.byteLength === wanted.length
        && new Uint8Array(data).every((byte, place) => byte === wanted[place]);
socket.onmessage = (event) => {
    if (!isSame(expected.shift(), event.data)) { say("step " + at + " differs"); return; }
    if (expected.length === 0) next();
};
socket.onclose = (event) => {
    const first = `${at - steps.length} ${event.code} ${event.wasClean}`;
    const other = new WebSocket(url);
    other.onopen = () => other.send("close 4001 enough");
    other.onclose = (event) => {
        say(`closed ${first}, ${event.code} ${event.reason} ${event.wasClean}`);
    };
};
</script>"""

told = queue.Queue()


class Page(http.server.BaseHTTPRequestHandler):
    """Serves the page, and takes what it tells."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        if self.path == "/":
            self.wfile.write(PAGE.replace("%HOW%", HOW).replace("%PORT%", PORT).encode())

    def do_POST(self):
        told.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
               "--remote-debugging-port=0", f"--user-data-dir={folder}/profile",
               f"http://127.0.0.1:{server.server_port}/"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answer = told.get(timeout=60)
    except queue.Empty:
        answer = "the page told nothing in a minute"
    finally:
        browser.terminate()
        browser.wait()

if answer != "closed 0 4000 true, 4001 enough true":
    sys.exit(f"chromium, {HOW}: {answer}")
print(f"chromium, {HOW}: all echoed")
