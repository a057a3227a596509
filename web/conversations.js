// The conversations, in rooms and in private, and what was said in each.

import { emit } from "./signal.js";

const ENTRIES_MAX = 800; // of a conversation; older ones go
const PRIVATE_MAX = 100; // conversations; the one that was quiet for longest goes
const NAMED_MAX = 8; // of those who came or went, in one line

const rooms = new Map();
/** The private conversations, the latest first. */
export let privates = [];
/** The conversation on the screen. */
export let current = null;
let isAttended = true; // its end is on a screen that somebody looks at

// One conversation; its `key` is a room's name or a user's id. Of its entries, what was said has a `timestamp`,
// in rooms an `id`, by which it is ordered, and if it is our own a `state`.
function begin(isRoom, key, name) {
	return { isRoom, key, name, entries: [], byId: new Map(), lastId: 0, unread: 0, draft: "", isEnded: false };
}

export function room(name) {
	if (!rooms.has(name)) rooms.set(name, begin(true, name, name));
	return rooms.get(name);
}

export function privately(id, name, isBegun = true) {
	let found = privates.find(({ key, isEnded }) => key === id && !isEnded);
	if (!found && isBegun) {
		found = begin(false, id, name);
		privates = [found, ...privates].slice(0, PRIVATE_MAX);
	}
	if (found) found.name = name;
	emit("conversations");
	return found;
}

/** Another life of the server gives the same ids to other people: nothing may be sent to them. */
export function endPrivates() {
	for (const conversation of privates) conversation.isEnded = true;
	emit("conversations");
}

export function show(conversation) {
	if (current === conversation) return;
	current = conversation;
	attend(true);
	emit("current");
}

export function attend(isLookedAt) {
	isAttended = isLookedAt;
	if (!isAttended || !current?.unread) return;
	current.unread = 0;
	emit("conversations");
}

export const unreadBut = (one) => [...rooms.values(), ...privates].reduce((sum, other) => sum + (other === one ? 0 : other.unread), 0);

export function add(conversation, entry) {
	const { entries, byId } = conversation;
	entries.push(entry);
	if (entry.id) know(conversation, entry);
	if (entries.length > ENTRIES_MAX) byId.delete(entries.shift().id);
	if (!conversation.isRoom && entry.timestamp) privates = [conversation, ...privates.filter((other) => other !== conversation)];
	if (entry.isNews && !(conversation === current && isAttended && !document.hidden)) entry.isFirstNews = conversation.unread++ === 0;
	if (entry.isFirstNews !== undefined || !conversation.isRoom) emit("conversations");
	emit("entry", conversation, entry);
}

function know(conversation, entry) {
	conversation.byId.set(entry.id, entry);
	conversation.lastId = Math.max(conversation.lastId, entry.id);
}

/** Gives an own message its place among the others, which it has by its id. */
export function place(conversation, entry, id) {
	const { entries } = conversation;
	const index = entries.indexOf(entry);
	if (index < 0) return;
	entries.splice(index, 1);
	const isLate = entries.slice(index).some((other) => other.id < id);
	entries.splice(isLate ? entries.findLastIndex((other) => other.id < id) + 1 : index, 0, entry);
	entry.id = id;
	know(conversation, entry);
	emit("changed", conversation, entry);
}

/** Ids of another life of the server say nothing about those of this one. */
export function forgetIds(conversation) {
	conversation.byId.clear();
	conversation.lastId = 0;
	for (const entry of conversation.entries) entry.id = undefined;
}

export function notice(conversation, notice, isBad = false) {
	if (conversation) add(conversation, { notice, isBad });
}

/** Somebody `came` or `left`. Those who follow one another share a line. */
export function passed(conversation, way, name) {
	const last = conversation.entries.at(-1);
	if (last?.way !== way || last.who.length === NAMED_MAX) return add(conversation, { way, who: [name] });
	last.who.push(name);
	emit("changed", conversation, last);
}
