// An echo and broadcast server as the README of ws shows them ("Simple server", "Server broadcast", and "Multiple
// servers sharing a single HTTP/S server" for the paths): https://github.com/websockets/ws
//
// /echo answers. Below /broadcast/, every message goes verbatim to everybody on the topic, its sender included. Choices, and why:
//
// - One process: the servers compared get one core each. Node's helper threads are pinned with it.
// - TCP_NODELAY is on, as ws sets it by itself; permessage-deflate is off, as is its default.
// - A topic is a Set like wss.clients, looked up when a connection joins it. It is never forgotten.
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
  response.writeHead(404, { 'Content-Type': 'text/plain' });
  response.end('not found');
});

const topics = new Map();
const wss = new WebSocketServer({ noServer: true, clientTracking: false });

wss.on('connection', (ws, request) => {
  ws.on('error', console.error);
  if (request.url === '/echo') {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
    return;
  }
  if (!topics.has(request.url)) {
    topics.set(request.url, new Set());
  }
  const members = topics.get(request.url);
  members.add(ws);
  ws.on('close', () => members.delete(ws));
  ws.on('message', (data, isBinary) => {
    members.forEach((member) => {
      if (member.readyState === WebSocket.OPEN) {
        member.send(data, { binary: isBinary });
      }
    });
  });
});

server.on('upgrade', (request, socket, head) => {
  if (request.url !== '/echo' && !request.url.startsWith('/broadcast/')) {
    socket.destroy();
    return;
  }
  wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));
});

server.listen(port, '127.0.0.1');
