// The WebSocket: whether the server still answers, and how the connection comes back.

const RETRY_MS = { first: 500, max: 30_000 };
const STEADY_MS = 5_000; // having held this long, it begins the delays anew
const QUIET_MS = 20_000; // then the server is asked whether it is there
const ANSWER_MS = 5_000; // for its answer
const WAKING_MS = 3_000; // for its answer to somebody who looks at the page

let socket = null;
let attempts = 0;
let openedAt = Infinity;
let retryTimer = 0;
let slotMs = null; // after which the server wants us back
let isSlot = false; // it is what the retry waits for
let quietTimer = 0;
let handlers;

/** What to call: `query()` is what the server should know at once, `closed(code, reason)` says whether to try again, and so does `refused(why)`, which comes after it. */
export function handle(calls) {
	handlers = calls;
}

/** The server is about to close, and has a slot for us to come back in. */
export function comeBack(afterMs) {
	slotMs = afterMs;
}

export function send(message) {
	const isOpen = socket?.readyState === WebSocket.OPEN;
	if (isOpen) socket.send(JSON.stringify(message));
	return isOpen;
}

function stopWaiting() {
	clearTimeout(retryTimer);
	retryTimer = 0;
}

/** Connects, without waiting for the rest of a delay. False when there is a connection already. */
export function open() {
	stopWaiting();
	if (socket) return false;
	const url = new URL("chat", location);
	url.search = new URLSearchParams(handlers.query());
	const opening = new WebSocket(url.href.replace("http", "ws"));
	socket = opening;
	openedAt = Infinity;
	quietly(QUIET_MS, close);
	opening.onopen = () => {
		openedAt = performance.now();
		handlers.opened();
	};
	opening.onmessage = ({ data }) => {
		if (socket !== opening) return;
		quietly(QUIET_MS, () => ask(ANSWER_MS));
		handlers.received(data);
	};
	opening.onclose = ({ code, reason }) => socket === opening && ended(code, reason);
	return true;
}

/** Does this when so long nothing was heard. */
function quietly(ms, act) {
	clearTimeout(quietTimer);
	quietTimer = setTimeout(act, ms);
}

/** A line may be dead without having been closed. */
function ask(patienceMs) {
	if (!socket) return;
	send({ type: "get_stats" });
	quietly(patienceMs, close);
}

/** Of a refused upgrade a page is told nothing. But it may ask whether its origin or a ban was the reason. */
async function explain() {
	const question = { method: "HEAD", cache: "no-store", headers: { "Uproar-Origin": location.origin } };
	const answer = await fetch("chat", question).catch(() => null);
	const why = answer?.headers.get("Uproar-Origin");
	if (openedAt !== Infinity || !why || why === "allowed") return;
	if (!handlers.refused(why)) stopWaiting();
}

/** Ends the connection without waiting for the server. */
export function close(code) {
	const closing = socket;
	if (closing) ended(code, "");
	closing?.close();
}

function ended(code, reason) {
	socket = null;
	if (performance.now() - openedAt > STEADY_MS) attempts = 0;
	if (!handlers.closed(code, reason)) return;
	if (openedAt === Infinity) explain();
	// Everybody loses a server in one moment; jitter keeps them from coming back in one.
	const ceiling = Math.min(RETRY_MS.max, RETRY_MS.first * 2 ** attempts++);
	isSlot = slotMs !== null;
	retryTimer = setTimeout(open, slotMs ?? ceiling * (0.5 + Math.random() / 2));
	slotMs = null;
}

// A phone that wakes up should not wait, unless the server has said so.
const wake = () => (retryTimer ? isSlot || open() : ask(WAKING_MS));
addEventListener("online", wake);
document.addEventListener("visibilitychange", () => document.hidden || wake());
