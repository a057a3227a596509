// A broadcast server as the README of ws shows it ("Server broadcast", and "Multiple servers sharing a
// single HTTP/S server" for the paths): https://github.com/websockets/ws
//
// Every message goes verbatim to everybody, its sender included. What is chosen, and why:
//
// - One process: the servers compared get one core each. Node's helper threads are pinned with it.
// - TCP_NODELAY is on, as ws sets it by itself; permessage-deflate is off, as is its default.
// - All paths below /broadcast/ are one topic, like in the README. That spares a lookup.
// - bufferutil, which the README calls optional, is left out: it speeds up unmasking, and there is one
//   unmasking for each broadcast, not for each delivery.

import { createServer } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error('usage: node server.js PORT');
  process.exit(2);
}

const server = createServer((request, response) => {
  const isHealthy = request.url === '/healthz';
  response.writeHead(isHealthy ? 200 : 404, { 'Content-Type': 'text/plain' });
  response.end(isHealthy ? 'ok' : 'not found');
});

const wss = new WebSocketServer({ noServer: true });

wss.on('connection', (ws) => {
  ws.on('error', console.error);
  ws.on('message', (data, isBinary) => {
    wss.clients.forEach((client) => {
      if (client.readyState === WebSocket.OPEN) {
        client.send(data, { binary: isBinary });
      }
    });
  });
});

server.on('upgrade', (request, socket, head) => {
  if (!request.url.startsWith('/broadcast/')) {
    socket.destroy();
    return;
  }
  wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));
});

server.listen(port, '127.0.0.1');
