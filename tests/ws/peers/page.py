"""A page in Chromium as a client of the echo server: page.py CHROMIUM PORT no|shared|kept

The page speaks with the echo server, and tells the server that it came from how it went.
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
const messages = [];
for (const size of [0, 1, 125, 126, 1000, 65535, 65536, 1000000]) {
    messages.push("gr\\u00f6\\u00dfe ".repeat(size), new Uint8Array(size).fill(7));
}
let at = 0;
const socket = new WebSocket("ws://127.0.0.1:%PORT%/ws");
socket.binaryType = "arraybuffer";
const say = (text) => fetch("/told", { method: "POST", body: text });
const next = () => at < messages.length ? socket.send(messages[at]) : socket.close(4000, "bye");
socket.onopen = () => {
    if (socket.extensions.includes("permessage-deflate") !== (how !== "no")) {
        say("extensions: " + socket.extensions);
    } else {
        next();
    }
};
socket.onmessage = (event) => {
    const sent = messages[at];
    const isSame = typeof sent === "string"
        ? event.data === sent
        : event.data.byteLength === sent.length
            && new Uint8Array(event.data).every((byte) => byte === 7);
    if (!isSame) { say("message " + at + " differs"); return; }
    at += 1;
    next();
};
socket.onclose = (event) => {
    if (at === messages.length) { say(`closed ${event.code} ${event.wasClean}`); }
    else { say(`closed early with ${event.code}`); }
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

if answer != "closed 4000 true":
    sys.exit(f"chromium, {HOW}: {answer}")
print(f"chromium, {HOW}: all echoed")
