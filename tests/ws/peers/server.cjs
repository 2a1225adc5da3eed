// node's ws as an echo server: server.cjs PORT. "close CODE REASON" is done.
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
    host: "127.0.0.1",
    port: Number(process.argv[2]),
    perMessageDeflate: { threshold: 0 },
});
server.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => {
        const text = isBinary ? "" : data.toString();
        if (text.startsWith("close ")) {
            const [, code, reason] = text.split(" ");
            socket.close(Number(code), reason);
        } else {
            socket.send(data, { binary: isBinary });
        }
    });
});
