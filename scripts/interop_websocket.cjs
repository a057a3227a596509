// A client or an echo server on ws (https://github.com/websockets/ws), for interop_websocket.py:
//
//     node interop_websocket.cjs client URL CERTIFICATES
//     node interop_websocket.cjs server ws|wss CERTIFICATES

const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocket, WebSocketServer } = require("ws");

const [role, what, certificates] = process.argv.slice(2);
const file = (name) => readFileSync(`${certificates}/${name}`);

if (role === "client") {
  const messages = ["", "hello", "κόσμε", "x".repeat(200_000), Buffer.alloc(0), Buffer.alloc(1_000_000, 7)];
  const socket = new WebSocket(what, { ca: file("ca.pem"), perMessageDeflate: false });
  const say = () => {
    if (messages.length === 0) return socket.close(1000, "done");
    socket.send(messages[0]);
  };
  socket.on("open", () => {
    socket.once("pong", (payload) => {
      assert.equal(payload.toString(), "there?");
      say();
    });
    socket.ping("there?");
  });
  socket.on("message", (data, isBinary) => {
    const expected = messages.shift();
    assert.equal(isBinary, Buffer.isBuffer(expected));
    assert(data.equals(Buffer.from(expected)));
    say();
  });
  socket.on("close", (code) => console.log(code));
} else {
  const server = what === "wss"
    ? https.createServer({ cert: file("cert.pem"), key: file("key.pem") })
    : http.createServer();
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  server.listen(0, "127.0.0.1", () => console.log(`listening on ${what}://127.0.0.1:${server.address().port}`));
}
