// The chat dialect, and how one comes back to a room without missing or doubling anything.

import * as connection from "./connection.js";
import * as talks from "./talks.js";
import * as outbox from "./outbox.js";
import * as roster from "./roster.js";
import { add, notice, passed, privately, room, show } from "./talks.js";
import { kept } from "./node.js";
import { emit } from "./signal.js";
import { refusal, words } from "./words.js";

const ROOMS_EVERY_MS = 15_000;
const HIDDEN_TICKS = 4; // a hidden page asks so much less often
const DOUBT_MS = 3_000; // for an answer that may never come
const PAGE_MAX = 100; // the most that the server gives at once
const TIMER_MS_MAX = 2 ** 31 - 1;
const SIGN_IN = -1; // our own reason to close: nothing can be done before

export const me = { id: 0, name: "", isAdmin: false, isSignedIn: false, mutedUntil: 0 };
export const rooms = new Map(); // name → members
/** Why the server lets nobody of this page in. */
export let obstacle = "";
/** The room that we are in. */
export let joined = null;

let account = null; // kept to come back with, as long as the page is open
let farewell = ""; // what the server said before it closed
let muteTimer = 0;
let newName = ""; // chosen while there was no connection
let isNaming = false; // a new name was sent, and is not answered
let roomPrefix = ""; // which rooms are shown
let prefixes = []; // of the lists of rooms that were asked for, in order
let listed = [];
let found = []; // with the prefix, where the server lists not all of them
let isAllListed = false;
let ticks = 0;
let older = null; // the room whose older messages were asked for
let doubtTimer = 0;

// Rooms whose history was asked for, in order. `isStale`: what comes before `room_joined` is of another room,
// or will be repeated. `isSkipped`: so will its history.
let visits = [];

outbox.sendWhen((talk) => !visits.length && (!talk.isRoom || talk === joined) && me);
setInterval(() => {
	if (document.hidden && ++ticks % HIDDEN_TICKS) return;
	askRooms();
	if (roomPrefix && !isAllListed) askRooms(roomPrefix);
}, ROOMS_EVERY_MS);

const become = (name, text = words(name)) => emit("status", name, text);

export function connect() {
	if (connection.open()) become("connecting");
}

/** Lists the rooms whose names begin so. */
export function findRooms(prefix) {
	roomPrefix = prefix;
	found = [];
	listRooms();
	askRooms(isAllListed ? "" : prefix);
}

/** Goes to a room. What was said since our last visit comes with its history. */
export function enterRoom(name) {
	const { lastId } = room(name);
	if (name === joined.key && !visits.length) show(joined);
	else ask(name, lastId, {}, lastId ? "resume" : "join_room");
}

function ask(name, after, visit, type = "resume") {
	if (connection.send({ type, room: name, after, epoch: room(name).epoch })) visits.push({ room: name, ...visit });
}

/** Asks for a name, or keeps it for the next connection. True when that is done. */
export function rename(name) {
	isNaming = connection.send({ type: "set_name", name });
	if (!isNaming) newName = kept("localStorage", "name", name);
	return !isNaming;
}

export function signIn(username, password) {
	account = { type: "auth", username, password };
	if (!connection.send(account)) connect();
}

/** Asks for what was said before, one page at a time. */
export function fetchOlder(talk) {
	const first = talk.entries.find(({ id }) => id);
	const isAsked = older || visits.length || talk !== joined || talk.isWhole || !first || talk.entries.length > talks.READ_MAX;
	if (!isAsked && connection.send({ type: "get_history", before: first.id, limit: PAGE_MAX })) older = talk;
}

function takeOlder(list, more, epoch) {
	const talk = older;
	older = null;
	if (talk !== joined) return;
	if (talk.epoch !== epoch) {
		// None of what is here belongs to it. What is said until the history comes is in it.
		talks.clear(talk);
		enterEpoch(talk, epoch);
		talk.isWhole = false;
		ask(talk.key, 0, { isStale: true }, "join_room");
	} else {
		talk.isWhole = !more;
		talks.addBefore(talk, list.map(keptEntry));
	}
}

function askRooms(prefix = "") {
	if (connection.send({ type: "get_rooms", prefix })) prefixes.push(prefix);
}

function listRooms() {
	const shown = (isAllListed ? listed : [...listed, ...found]).filter((one) => one.room.startsWith(roomPrefix));
	rooms.clear();
	if (joined && shown.every((one) => one.room !== joined.key)) rooms.set(joined.key, 0);
	for (const one of shown) rooms.set(one.room, one.users_online);
	emit("rooms");
}

/** Which of our messages the server has dropped, nobody says. If one stays without an answer, the history tells. */
function doubt() {
	older = null;
	prefixes = [];
	isNaming = false;
	clearTimeout(doubtTimer);
	doubtTimer = setTimeout(() => (visits.length || outbox.isBusy()) && connection.close(), DOUBT_MS);
}

connection.handle({
	query: () => ({ name: kept("localStorage", "name") ?? "", session: kept("sessionStorage", "session") ?? "" }),

	opened() {
		farewell = obstacle = "";
		// Where an account is needed, the answer to the second says so.
		account ? connection.send(account) : askRooms();
	},

	closed(code, reason) {
		const isRefused = code === SIGN_IN || (code === 1008 && account && !me.isSignedIn);
		me.isSignedIn = me.isAdmin = false;
		visits = [];
		prefixes = [];
		older = null;
		isNaming = false;
		clearTimeout(doubtTimer);
		outbox.interrupt();
		emit("me");
		// 1008 is a decision about us; asking again at once would be pestering.
		const isFinal = isRefused || code === 1008;
		if (isRefused) {
			account = null;
			become("closed", words("signIn"));
			emit("sign-in", refusal(reason));
		} else if (isFinal) {
			const text = farewell ? words("kicked", refusal(farewell)) : words("closed", refusal(reason));
			become("closed", text);
			notice(talks.current, text, true);
		} else become("lost", words(obstacle ? "refused" : farewell ? "full" : "lost"));
		if (isFinal) outbox.resolve();
		return !isFinal;
	},

	refused(why) {
		const isFinal = why === "banned";
		obstacle = isFinal ? words("banned") : why === "unknown-host" ? words("unknownHost", location.hostname) : words("otherOrigin", location.origin);
		isFinal ? become("closed", words("closed", refusal(why))) : become("lost", words("refused"));
		emit("me");
		return !isFinal;
	},

	received(data) {
		let event;
		try {
			event = JSON.parse(data);
		} catch {
			farewell = data; // "Server is full" is plain text in every dialect
			return;
		}
		const isStale = !joined || visits[0]?.isStale;
		if (Object.hasOwn(EVENTS, event?.type) && !(isStale && OF_A_ROOM.has(event.type))) EVENTS[event.type](event.content, event);
	},
});

const OF_A_ROOM = new Set(["message", "message_deleted", "image", "join", "leave", "user_renamed", "presence", "typing", "users"]);

function arrive(name) {
	const before = joined;
	joined = room(name);
	roster.reset();
	if (joined !== before) {
		if (before) {
			outbox.abandon(before);
			talks.leave(before);
		}
		emit("joined");
	}
	if (!visits[0]?.isReturn || talks.current === before) show(joined);
	emit("rooms");
}

/** Another epoch than before is another life of the room's log, and mostly of the server. */
function enterEpoch(talk, epoch) {
	if (talk.epoch && talk.epoch !== epoch) {
		if (talk.lastId) notice(talk, words("anew"), true);
		talks.forgetIds(talk);
		talks.endPrivates();
		outbox.resolve();
	}
	talk.epoch = epoch;
}

/** Adds what is not there yet, and tells what is missing. */
function merge(history, isComplete, isReturn) {
	const { lastId } = joined;
	if (lastId && !isComplete) notice(joined, words("gap"), true);
	else if (lastId && isReturn) notice(joined, words("back"));
	for (const entry of history) if (!outbox.recognise(joined, entry) && entry.id > lastId) add(joined, entry);
}

function said(content, { message_id: id, from_id: fromId, from_name: fromName, from_account: account, timestamp }) {
	return { id, fromId, fromName, account, timestamp, isNews: true, ...(content?.url ? { url: String(content.url) } : { text: String(content) }) };
}

const keptEntry = (one) => said(one.content, { ...one, from_name: one.sender });

const hear = (content, event) => add(joined, said(content, event));

function renamed({ id, name }) {
	roster.rename(id, name);
	talks.rename(id, name);
}

/** What was asked for is refused. Where we wanted to go back to, we stay in the room that the server chose. */
function endVisit(isMeant) {
	const visit = visits.find(isMeant);
	visits = visits.filter((other) => other !== visit);
	if (visit?.isReturn) ask(visit.instead, 0, { isStale: true }, "join_room");
	outbox.next();
	return visit;
}

const EVENTS = {
	welcome({ user_id, user_name, room: entered, session }) {
		EVENTS.unmuted(); // What still holds is told again.
		Object.assign(me, { id: user_id, name: user_name });
		kept("sessionStorage", "session", session);
		become("open");
		emit("me");
		// What was not taken with the upgrade is asked for; the answer says why.
		const wanted = newName || (user_name === `User${user_id}` && kept("localStorage", "name"));
		newName = "";
		if (wanted && wanted !== user_name && !account) rename(wanted);
		const isReturn = joined !== null;
		visits = [{ room: entered, isStale: isReturn, isSkipped: isReturn }];
		if (isReturn) return ask(joined.key, outbox.historyAfter(joined), { isReturn, isStale: true, instead: entered });
		arrive(entered);
		askRooms();
	},

	auth_success({ user_name, is_admin }) {
		Object.assign(me, { name: user_name, isAdmin: is_admin, isSignedIn: true });
		roster.rename(me.id, user_name);
		emit("me");
	},

	room_joined({ room: entered }) {
		if (visits[0]) visits[0].isStale = false;
		arrive(entered);
		askRooms();
	},

	users: (list, { total }) => roster.list(list, total),

	history(list, { complete, epoch, deleted = [], more }) {
		if (more !== undefined) return takeOlder(list, more, epoch);
		const visit = visits.shift();
		if (!visit) return;
		enterEpoch(room(visit.room), epoch);
		if (visit.isSkipped) return;
		for (const id of deleted) talks.remove(room(visit.room), id);
		merge(list.map(keptEntry), complete !== false, visit.isReturn);
		if (!visits.length) outbox.resolve();
	},

	rooms(list, { total }) {
		const prefix = prefixes.shift() ?? "";
		if (prefix && prefix !== roomPrefix) return;
		for (const one of list) if (one.room !== joined?.key) talks.note(room(one.room), one.epoch, one.last_message_id);
		if (prefix) found = list;
		else {
			listed = list;
			isAllListed = list.length === total;
			talks.forgetOthers(new Set([joined?.key, ...list.map((one) => one.room)]), isAllListed);
		}
		listRooms();
	},

	message: hear,
	image: hear,
	message_deleted: ({ message_id }) => talks.remove(joined, message_id),
	message_sent: ({ message_id }, { timestamp }) => outbox.acknowledge(timestamp, message_id),
	private_message_sent: (_, { timestamp }) => outbox.acknowledge(timestamp),

	message_read({ message_id, read_by }) {
		if (!roster.has(read_by)) return;
		// Who has read a message has read those before it.
		for (const entry of joined.entries) {
			if (!(entry.id <= message_id) || !entry.readers || entry.readers.has(read_by)) continue;
			entry.readers.add(read_by);
			emit("changed", joined, entry);
		}
	},

	private_message(content, event) {
		if (event.from_id !== me.id) add(privately(event.from_id, event.from_name, event.from_account), said(content, event));
	},

	join({ user_id: id, user_name: name, account, users_online }) {
		roster.change([{ id, name, account }], [], users_online);
		passed(joined, "came", name);
	},

	leave({ user_id: id, user_name: name, users_online }) {
		roster.change([], [id], users_online);
		passed(joined, "left", name);
		emit("typing", id);
	},

	user_renamed({ user_id, old_name, new_name }) {
		renamed({ id: user_id, name: new_name });
		add(joined, { names: [old_name, new_name] });
	},

	presence({ joined: came, left, renamed: some, users_online, truncated }) {
		roster.change(came, left, users_online, truncated);
		some.forEach(renamed);
	},

	typing: ({ user_id, user_name, is_typing }) => emit("typing", user_id, is_typing && user_name),

	name_changed({ new_name }) {
		isNaming = false;
		kept("localStorage", "name", (me.name = new_name));
		roster.rename(me.id, new_name);
		emit("me");
	},

	bans: (list) => emit("bans", list),

	kicked: ({ reason }) => (farewell = reason),
	reconnect: ({ after_ms }) => connection.comeBack(after_ms),

	muted({ seconds }) {
		EVENTS.unmuted();
		me.mutedUntil = Date.now() + seconds * 1000;
		muteTimer = setTimeout(EVENTS.unmuted, Math.min(seconds * 1000, TIMER_MS_MAX));
	},

	unmuted() {
		clearTimeout(muteTimer);
		me.mutedUntil = 0;
		emit("me");
	},

	error({ message }) {
		const text = refusal(message);
		const [kind, about] = message.split(": ");
		if (kind === "Authentication required") return account || connection.close(SIGN_IN);
		if (kind === "Unknown message") return; // a read mark for what is no longer kept
		if (kind === "Unknown message type") return outbox.refuse(text, (type) => type === about);
		if (kind === "Too many messages") doubt();
		const isOfName = isNaming && (kind === "Permission denied" || kind === "You are muted");
		const isBadName = kind.startsWith("Invalid name") || kind === "Name is reserved";
		if (isOfName || isBadName) isNaming = false;
		if (isBadName) return emit("name-refused", text);
		const isOfPrivate = kind === "User not found or offline";
		if (kind === "Unknown room") endVisit((visit) => visit.room === message.slice(kind.length + 2));
		else if (kind === "Too many rooms") endVisit(() => true);
		else if (isOfName || kind === "Too many messages") emit("name-denied", text);
		else if (outbox.refuse(text, (type) => !isOfPrivate || type === "private_message")) return;
		else if (kind === "Permission denied") endVisit(() => true);
		notice(talks.current, text, true);
	},
};
