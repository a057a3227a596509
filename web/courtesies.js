// Typing and read marks, sent sparingly, since each goes to somebody else's screen.

import * as conversations from "./conversations.js";
import * as roster from "./roster.js";
import * as session from "./session.js";
import { at, people, phrase } from "./element.js";
import { listen } from "./signal.js";
import { send } from "./connection.js";

const TYPING_AGAIN_MS = 4_000;
const TYPING_LASTS_MS = 7_000; // without being told again
const NAMED_MAX = 3;
const READ_MS = 1_000;
const AUTHORS_MAX = 5; // who are told in one go
const CROWD = 100; // members, to whom neither is told: each message would bring a mark from everyone

let isTold = false; // that we are typing
let againTimer = 0;

export function typed(hasText) {
	if (!hasText || conversations.current !== session.joined) return stop();
	if (isTold || roster.online > CROWD) return;
	isTold = send({ type: "typing", is_typing: true });
	againTimer = setTimeout(() => (isTold = false), TYPING_AGAIN_MS);
}

function stop() {
	clearTimeout(againTimer);
	if (isTold) send({ type: "typing", is_typing: false });
	isTold = false;
}

const typing = new Map(); // id → { name, timer }
let unmarked = new Map(); // author → the last id of theirs that was read
let readTimer = 0;

listen("typing", (id, name) => {
	clearTimeout(typing.get(id)?.timer);
	typing.delete(id);
	if (name) typing.set(id, { name, timer: setTimeout(() => typing.delete(id) && showTyping(), TYPING_LASTS_MS) });
	showTyping();
});
listen("joined", () => {
	typing.clear();
	unmarked.clear();
});
listen("current joined", showTyping);

function showTyping() {
	const names = conversations.current === session.joined ? [...typing.values()].map(({ name }) => name) : [];
	at("typing").replaceChildren(...(names.length ? phrase("typing", people(names.slice(0, NAMED_MAX))) : []));
}

listen("entry", (conversation, { id, fromId, state }) => {
	if (conversation !== session.joined) return;
	if (typing.delete(fromId)) showTyping();
	if (id && !state && roster.online <= CROWD) unmarked.set(fromId, id);
	markRead();
});
listen("conversations", markRead);

function markRead() {
	if (unmarked.size) readTimer ||= setTimeout(sendMarks, READ_MS);
}

function sendMarks() {
	readTimer = 0;
	// What is unread stays so until it has been looked at; then "conversations" comes again.
	if (document.hidden || conversations.current !== session.joined || session.joined.unread) return;
	for (const id of [...unmarked.values()].slice(-AUTHORS_MAX)) send({ type: "read", message_id: id });
	unmarked.clear();
}
