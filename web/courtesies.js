// Typing and read marks, sent sparingly, since others see them.

import * as talks from "./talks.js";
import * as roster from "./roster.js";
import * as chat from "./chat.js";
import { at } from "./elements.js";
import { people, phrase } from "./node.js";
import { on } from "./signal.js";
import { send } from "./connection.js";

const TYPING_AGAIN_MS = 4_000;
const TYPING_LASTS_MS = 7_000; // without being told again
const NAMED_MAX = 3;
const READ_MS = 1_000;
const AUTHORS_MAX = 5; // who are told in one go
const CROWD = 100; // members, to whom neither is told

let isTold = false; // that we are typing
let againTimer = 0;

export function typed(hasText) {
	if (!hasText || talks.current !== chat.joined) return stop();
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

on("typing", (id, name) => {
	clearTimeout(typing.get(id)?.timer);
	typing.delete(id);
	if (name) typing.set(id, { name, timer: setTimeout(() => typing.delete(id) && showTyping(), TYPING_LASTS_MS) });
	showTyping();
});
on("joined", () => {
	typing.clear();
	unmarked.clear();
});
on("current joined", showTyping);

function showTyping() {
	const names = talks.current === chat.joined ? [...typing.values()].map(({ name }) => name) : [];
	at("typing").replaceChildren(...(names.length ? phrase("typing", people(names.slice(0, NAMED_MAX))) : []));
}

on("entry", (talk, { id, fromId, state }) => {
	if (talk !== chat.joined) return;
	if (typing.delete(fromId)) showTyping();
	if (id && !state && roster.online <= CROWD) unmarked.set(fromId, id);
	markRead();
});
on("talks", markRead);

function markRead() {
	if (unmarked.size) readTimer ||= setTimeout(sendMarks, READ_MS);
}

function sendMarks() {
	readTimer = 0;
	// Once what is unread has been looked at, "talks" comes again.
	if (document.hidden || talks.current !== chat.joined || chat.joined.unread) return;
	for (const id of [...unmarked.values()].slice(-AUTHORS_MAX)) send({ type: "read", message_id: id });
	unmarked.clear();
}
