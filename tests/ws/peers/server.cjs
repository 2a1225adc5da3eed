// node's ws as an echo server: server.cjs PORT. What it is told to do is in foreign.rs.
const { WebSocketServer } = require("ws");

const IN_PARTS = "größe ☃ in parts";
const server = new WebSocketServer({
    host: "127.0.0.1",
    port: Number(process.argv[2]),
    perMessageDeflate: { threshold: 0 },
});

function sendParts(socket, whole, binary) {
    socket.send(whole.slice(0, 3), { binary, fin: false });
    socket.send(whole.slice(3, 9), { binary, fin: false });
    socket.send(whole.slice(9), { binary, fin: true });
}

server.on("connection", (socket) => {
    socket.on("pong", () => socket.send("pong"));
    socket.on("message", (data, isBinary) => {
        const text = isBinary ? "" : data.toString();
        if (text === "parts") {
            sendParts(socket, IN_PARTS, false);
            sendParts(socket, Buffer.from(IN_PARTS), true);
        } else if (text === "ping") {
            socket.ping("there?");
        } else if (text.startsWith("close ")) {
            const [, code, reason] = text.split(" ");
            socket.close(Number(code), reason);
        } else {
            socket.send(data, { binary: isBinary });
        }
    });
});
