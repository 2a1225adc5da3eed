// node's ws as a client of the echo server: client.cjs PORT no|shared|kept
const assert = require("assert");
const crypto = require("crypto");
const WebSocket = require("ws");

const [port, how] = process.argv.slice(2);
const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, {
    perMessageDeflate: { threshold: 0, clientMaxWindowBits: 10 },
});
const messages = [];
for (const size of [0, 1, 125, 126, 1000, 65535, 65536, 1000000]) {
    messages.push(crypto.randomBytes(size), Buffer.alloc(size, "ab"), "größe ".repeat(size));
}
let at = 0;

function next() {
    if (at < messages.length) {
        socket.send(messages[at]);
    } else if (at === messages.length) {
        for (const part of ["fr", "ag", "", "ments"]) {
            socket.send(part, { fin: part === "ments" });
        }
    } else {
        socket.ping("there?");
    }
}

socket.on("open", () => {
    assert.strictEqual(socket.extensions, how === "no" ? "" : "permessage-deflate");
    next();
});
socket.on("message", (data, isBinary) => {
    const expected = at < messages.length ? messages[at] : "fragments";
    const isText = typeof expected === "string";
    assert.strictEqual(isBinary, !isText);
    assert(Buffer.from(expected).equals(data), `message ${at}`);
    at += 1;
    next();
});
socket.on("pong", (data) => {
    assert.strictEqual(data.toString(), "there?");
    socket.close(3456, "bye");
});
socket.on("close", (code) => {
    assert.strictEqual(code, 3456);
    console.log(`ws of node, ${how}: all echoed`);
});
socket.on("error", (error) => {
    throw error;
});
