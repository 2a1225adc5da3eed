// node's ws as a client of foreign.rs: client.cjs PORT no|shared|kept
const assert = require("assert");
const crypto = require("crypto");
const WebSocket = require("ws");

const [port, how] = process.argv.slice(2);
const IN_PARTS = "größe ☃ in parts";
const url = `ws://127.0.0.1:${port}/ws`;

// What is sent, as one frame or as several, and the messages that are to come.
const steps = [];
for (const size of [0, 1, 125, 126, 1000, 65535, 65536, 1000000]) {
    for (const whole of [crypto.randomBytes(size), Buffer.alloc(size, "ab"), "größe ".repeat(size)]) {
        steps.push([[whole], [whole]]);
    }
}
steps.push([["fr", "ag", "", "ments"], ["fragments"]]);
steps.push([["fr", "ag", "", "ments"].map((part) => Buffer.from(part)), [Buffer.from("fragments")]]);
steps.push([["parts"], [IN_PARTS, Buffer.from(IN_PARTS)]]);
steps.push([["ping"], ["pong"]]);

const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0, clientMaxWindowBits: 10 } });
let at = -1;
let expected = [];

function next() {
    at += 1;
    if (at === steps.length) {
        socket.ping("there?");
        return;
    }
    const [parts, answers] = steps[at];
    expected = [...answers];
    parts.forEach((part, place) => socket.send(part, { fin: place === parts.length - 1 }));
}

socket.on("open", () => {
    assert.strictEqual(socket.extensions, how === "no" ? "" : "permessage-deflate");
    next();
});
socket.on("message", (data, isBinary) => {
    const answer = expected.shift();
    assert.strictEqual(isBinary, typeof answer !== "string");
    assert(Buffer.from(answer).equals(data), `step ${at}`);
    if (expected.length === 0) {
        next();
    }
});
socket.on("pong", (data) => {
    assert.strictEqual(data.toString(), "there?");
    socket.close(3456, "bye");
});
socket.on("close", (code) => {
    assert.strictEqual(code, 3456);
    const other = new WebSocket(url, { perMessageDeflate: false });
    other.on("open", () => other.send("close 4001 enough"));
    other.on("close", (code, reason) => {
        assert.deepStrictEqual([other.extensions, code, reason.toString()], ["", 4001, "enough"]);
        console.log(`ws of node, ${how}: all echoed`);
    });
});
// Nothing is left to wait for if the connection has ended before its time.
process.on("exit", (code) => assert(code !== 0 || at === steps.length, `ended at step ${at}`));
