// What we say, until the server has it. It answers that a message was sent, not which; so one is under way at
// a time, and the answer is always to that one.

import { add, place, show } from "./conversations.js";
import { close, send } from "./connection.js";
import { emit } from "./signal.js";
import { words } from "./words.js";

const WAITING_MAX = 50; // below the server's burst of 100, since they may leave at once
const ANSWER_MS = 20_000; // after this the connection is taken for dead

let waiting = [];
let underWay = null;
let doubtful = []; // under way when a connection ended: the room's history will tell
let answerTimer = 0;
let isReady; // to send to that conversation

export function sendWhen(readiness) {
	isReady = readiness;
}

export function submit(conversation, message, { id: fromId, name: fromName }) {
	const { content: text, url } = message;
	const entry = { message, conversation, fromId, fromName, text, url, timestamp: Date.now() / 1000, state: "waiting", readers: new Set() };
	add(conversation, entry);
	show(conversation);
	enqueue(entry);
}

/** Says something for the first time, or again when it has failed. */
export function enqueue(entry) {
	if (waiting.length >= WAITING_MAX) return become(entry, "failed", words("tooMany"));
	become(entry, "waiting");
	waiting.push(entry);
	next();
}

function become(entry, state, reason) {
	Object.assign(entry, { state, reason });
	emit("changed", entry.conversation, entry);
}

export function next() {
	if (underWay || !waiting.length || !isReady(waiting[0].conversation) || !send(waiting[0].message)) return;
	underWay = waiting.shift();
	underWay.afterId = underWay.conversation.lastId;
	become(underWay, "sending");
	answerTimer = setTimeout(close, ANSWER_MS);
}

function answered() {
	const entry = underWay;
	underWay = null;
	clearTimeout(answerTimer);
	return entry;
}

/** The server has it; in a room it has given it an id. */
export function acknowledge(timestamp, id) {
	if (!underWay || underWay.conversation.isRoom !== (id !== undefined)) return;
	const entry = answered();
	entry.timestamp = timestamp;
	become(entry, "sent");
	if (id) place(entry.conversation, entry, id);
	next();
}

/** The server refused what is under way. False when that cannot be meant. */
export function refuse(reason, isMeant) {
	if (!underWay || !isMeant(underWay.message.type)) return false;
	become(answered(), "failed", reason);
	next();
	return true;
}

export function abandon(conversation) {
	const lost = waiting.filter((entry) => entry.conversation === conversation);
	waiting = waiting.filter((entry) => entry.conversation !== conversation);
	for (const entry of lost) become(entry, "failed", words("unsure"));
}

/** The connection ended. What was under way has perhaps arrived. */
export function interrupt() {
	const entry = answered();
	if (entry?.conversation.isRoom) doubtful.push(entry);
	else if (entry) become(entry, "failed", words("unsure"));
}

/** True when this, out of the room's history, is the own message that was in doubt. */
export function recognise(conversation, { id, fromName, text, url }) {
	const entry = doubtful.find((one) => one.conversation === conversation && id > one.afterId &&
		one.fromName === fromName && one.text === text && one.url === url);
	if (!entry) return false;
	doubtful = doubtful.filter((other) => other !== entry);
	become(entry, "sent");
	place(conversation, entry, id);
	return true;
}

/** Behind which id the history has to be asked for, so that it tells of what is in doubt. */
export const historyAfter = (conversation) =>
	Math.min(conversation.lastId, ...doubtful.filter((entry) => entry.conversation === conversation).map(({ afterId }) => afterId));

/** The history was read, and what is still in doubt was not in it. */
export function resolve() {
	for (const entry of doubtful) become(entry, "failed", words("unsure"));
	doubtful = [];
	next();
}
