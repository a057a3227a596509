// The WebSocket, and how it comes back.

const RETRY_MS = { first: 500, max: 30_000 };
const STEADY_MS = 5_000; // a connection that held this long begins the delays anew

let socket = null;
let attempts = 0;
let openedAt = 0;
let retryTimer = 0;
let handlers = null;

/**
 * Connects, and says what happens: `opened()`, `received(data)`, `closed(code, reason)`. The last returns
 * whether to try again.
 */
export function start(calls) {
  handlers = calls;
  open();
}

export const isOpen = () => socket?.readyState === WebSocket.OPEN;

export function send(message) {
  if (!isOpen()) return false;
  socket.send(JSON.stringify(message));
  return true;
}

/** Connects now, without waiting for the rest of a delay. */
export function open() {
  clearTimeout(retryTimer);
  retryTimer = 0;
  if (socket) return;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const opening = new WebSocket(`${scheme}//${location.host}/chat`);
  socket = opening;
  openedAt = Infinity;
  opening.onopen = () => {
    openedAt = performance.now();
    handlers.opened();
  };
  opening.onmessage = ({ data }) => socket === opening && handlers.received(data);
  opening.onclose = ({ code, reason }) => socket === opening && ended(code, reason);
}

/** Ends the connection; `closed` is told as if the server had done it. */
export function close(code, reason) {
  if (!socket) return;
  const closing = socket;
  ended(code, reason);
  closing.close(1000);
}

function ended(code, reason) {
  socket = null;
  if (performance.now() - openedAt > STEADY_MS) attempts = 0;
  if (!handlers.closed(code, reason)) return;
  // Everybody loses the connection in the same moment when a server restarts. The jitter keeps them from
  // coming back in the same moment too.
  const ceiling = Math.min(RETRY_MS.max, RETRY_MS.first * 2 ** attempts++);
  retryTimer = setTimeout(open, ceiling / 2 + (Math.random() * ceiling) / 2);
}

// A phone that wakes up, or is back on the net, should not wait for the rest of a long delay.
const openSooner = () => retryTimer && !document.hidden && open();
addEventListener("online", openSooner);
document.addEventListener("visibilitychange", openSooner);
