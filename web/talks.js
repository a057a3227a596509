// The talks, in rooms and in private, and what was said in each.

import { emit } from "./signal.js";

const ENTRIES_MAX = 800; // older ones go when others come
/** Entries that somebody may scroll up to. */
export const READ_MAX = 10_000;
const PRIVATE_MAX = 100; // the longest quiet one goes
const NAMED_MAX = 8; // of those who came or went, in one line

const rooms = new Map();
/** The private talks, the latest first. */
export let privates = [];
/** The talk on the screen. */
export let current = null;
let isAttended = true; // its end is on a screen that somebody looks at

// The `key` is a room's name, or an account, which survives a new connection, or a user's id. Of the entries, what was said has a `timestamp`, in rooms an `id`,
// by which it is ordered, and if it is our own a `state`.
function begin(isRoom, key, name) {
	return { isRoom, key, name, entries: [], byId: new Map(), lastId: 0, unread: 0, draft: "", isEnded: false };
}

export function room(name) {
	if (!rooms.has(name)) rooms.set(name, begin(true, name, name));
	return rooms.get(name);
}

export function privately(id, name, account) {
	const key = account ?? id;
	let found = privates.find((talk) => talk.key === key && !talk.isEnded);
	if (!found) {
		found = begin(false, key, name);
		privates = [found, ...privates].slice(0, PRIVATE_MAX);
	}
	Object.assign(found, { id, name });
	emit("talks");
	return found;
}

export function rename(id, name) {
	for (const talk of privates) if (talk.id === id) talk.name = name;
	emit("talks");
}

/** Another life of the server gives the ids to other people. Accounts stay. */
export function endPrivates() {
	for (const talk of privates) talk.isEnded ||= talk.key === talk.id;
	emit("talks");
}

export function show(talk) {
	if (current === talk) return;
	current = talk;
	attend(true);
	emit("current");
}

export function attend(isLookedAt) {
	isAttended = isLookedAt;
	if (!isAttended || !current?.unread) return;
	current.unread = 0;
	emit("talks");
}

/** Notes how far a room was read. Its ids grow by one a message. */
export function leave(talk) {
	talk.read = { epoch: talk.epoch, id: talk.lastId - talk.unread };
}

/** Counts what was said elsewhere since we were there, or since the page knows of it. */
export function note(talk, epoch, id) {
	talk.read ??= { epoch, id };
	talk.unread = Math.min(999, Math.max(0, id - (talk.read.epoch === epoch && talk.read.id)));
}

/** Of the rooms that the server does not list, drops those that we never were in. A `whole` list names all there are. */
export function forgetOthers(listed, isWhole) {
	for (const [name, talk] of rooms) {
		if (listed.has(name) || talk === current) continue;
		if (!talk.epoch && !talk.draft) rooms.delete(name);
		else if (isWhole) talk.unread = 0;
	}
	emit("talks");
}

/** Takes away everything that was said, but not what of ours the server has yet to get. */
export function clear(talk) {
	talk.entries = talk.entries.filter(({ id, state }) => state && !id);
	if (talk === current) emit("current");
}

/** Takes away what was deleted. */
export function remove(talk, id) {
	const entry = talk.byId.get(id);
	talk.entries = talk.entries.filter((other) => other !== entry);
	if (talk.byId.delete(id)) emit("changed", talk, entry);
}

export const unreadBut = (one) => [...rooms.values(), ...privates].reduce((sum, other) => sum + (other === one ? 0 : other.unread), 0);

export function add(talk, entry) {
	const { entries, byId } = talk;
	entries.push(entry);
	if (entry.id) know(talk, entry);
	// Nothing goes while somebody reads further up.
	while (entries.length > (talk === current && !isAttended ? READ_MAX : ENTRIES_MAX)) {
		const oldest = entries.shift();
		byId.delete(oldest.id);
		talk.isWhole = false;
		emit("changed", talk, oldest);
	}
	if (!talk.isRoom && entry.timestamp) privates = [talk, ...privates.filter((other) => other !== talk)];
	if (entry.isNews && !(talk === current && isAttended && !document.hidden)) entry.isFirstNews = talk.unread++ === 0;
	if (entry.isFirstNews !== undefined || !talk.isRoom) emit("talks");
	emit("entry", talk, entry);
}

/** Adds what was said before everything that is there. */
export function addBefore(talk, entries) {
	const missing = entries.filter(({ id }) => !talk.byId.has(id));
	for (const entry of missing) know(talk, entry);
	talk.entries.unshift(...missing);
	emit("older", talk);
}

function know(talk, entry) {
	talk.byId.set(entry.id, entry);
	talk.lastId = Math.max(talk.lastId, entry.id);
}

/** Puts an own message where its id belongs. */
export function place(talk, entry, id) {
	const { entries } = talk;
	const index = entries.indexOf(entry);
	if (index < 0) return;
	entries.splice(index, 1);
	const isLate = entries.slice(index).some((other) => other.id < id);
	entries.splice(isLate ? entries.findLastIndex((other) => other.id < id) + 1 : index, 0, entry);
	entry.id = id;
	know(talk, entry);
	emit("changed", talk, entry);
}

/** Gives a refused message back to its author, to be changed. False when something else is being written. */
export function takeBack(entry, why) {
	const { talk, text } = entry;
	if (talk.draft) return false;
	talk.draft = text;
	talk.entries = talk.entries.filter((other) => other !== entry);
	emit("changed", talk, entry);
	emit("talks");
	add(talk, { notice: why, isBad: true, state: "refused" });
	return true;
}

/** Those of another life of the server. */
export function forgetIds(talk) {
	talk.byId.clear();
	talk.lastId = 0;
	talk.isWhole = true;
	for (const entry of talk.entries) entry.id = undefined;
}

export function notice(talk, notice, isBad = false) {
	if (talk) add(talk, { notice, isBad });
}

/** Somebody `came` or `left`; those in succession share a line. */
export function passed(talk, way, name) {
	const last = talk.entries.at(-1);
	if (last?.way !== way || last.who.length === NAMED_MAX) return add(talk, { way, who: [name] });
	last.who.push(name);
	emit("changed", talk, last);
}
