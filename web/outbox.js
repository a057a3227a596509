// What we say, until the server has it. Its answers don't name the message; so one is under way at a time.

import { add, place, show, takeBack } from "./talks.js";
import { close, send } from "./connection.js";
import { emit } from "./signal.js";
import { words } from "./words.js";

const WAITING_MAX = 50; // below the server's burst of 100
const ANSWER_MS = 20_000; // after this the connection is taken for dead

let waiting = [];
let underWay = null;
let doubtful = null; // under way when the line broke: history will tell
let answerTimer = 0;
let sender; // who sends to that talk, when it can be sent to

export function sendWhen(readiness) {
	sender = readiness;
}

export function submit(talk, message, { id: fromId, name: fromName }) {
	const { content: text, url } = message;
	const entry = { message, talk, fromId, fromName, text, url, timestamp: Date.now() / 1000, state: "waiting", readers: new Set() };
	add(talk, entry);
	show(talk);
	enqueue(entry);
}

export function enqueue(entry) {
	if (waiting.length >= WAITING_MAX) return become(entry, "failed", words("tooMany"));
	become(entry, "waiting");
	waiting.push(entry);
	next();
}

function become(entry, state, reason) {
	Object.assign(entry, { state, reason });
	emit("changed", entry.talk, entry);
}

export function next() {
	const by = !underWay && waiting.length && sender(waiting[0].talk);
	if (!by || !send(waiting[0].message)) return;
	underWay = waiting.shift();
	Object.assign(underWay, { fromId: by.id, fromName: by.name, afterId: underWay.talk.lastId });
	become(underWay, "sending");
	answerTimer = setTimeout(close, ANSWER_MS);
}

export const isBusy = () => underWay !== null;

function answered() {
	const entry = underWay;
	underWay = null;
	clearTimeout(answerTimer);
	return entry;
}

/** The server has it, in a room with an id. */
export function acknowledge(timestamp, id) {
	if (!underWay || underWay.talk.isRoom !== (id !== undefined)) return;
	const entry = answered();
	entry.timestamp = timestamp;
	become(entry, "sent");
	if (id) place(entry.talk, entry, id);
	next();
}

/** The server refused it. False when something else is meant. */
export function refuse(reason, isMeant) {
	if (!underWay || !isMeant(underWay.message.type)) return false;
	const entry = answered();
	if (!entry.text || !takeBack(entry, reason)) become(entry, "failed", reason);
	next();
	return true;
}

export function abandon(talk) {
	const lost = waiting.filter((entry) => entry.talk === talk);
	waiting = waiting.filter((entry) => entry.talk !== talk);
	for (const entry of lost) become(entry, "failed", words("unsure"));
}

/** What was under way has perhaps arrived. */
export function interrupt() {
	const entry = answered();
	if (entry?.talk.isRoom) doubtful = entry;
	else if (entry) become(entry, "failed", words("unsure"));
}

/** True when this, of the history, was in doubt. */
export function recognise(talk, known) {
	const entry = doubtful;
	if (entry?.talk !== talk || known.fromId !== entry.fromId || known.id <= entry.afterId) return false;
	doubtful = null;
	become(entry, "sent");
	place(talk, entry, known.id);
	return true;
}

/** Behind which id the history tells of what is in doubt. */
export const historyAfter = (talk) => (doubtful?.talk === talk ? doubtful.afterId : talk.lastId);

/** What is still in doubt was not in the history. */
export function resolve() {
	if (doubtful) become(doubtful, "failed", words("unsure"));
	doubtful = null;
	next();
}
