// The conversations, in rooms and in private, and what was said in each. Nothing here is shown or sent.

import { emit } from "./signal.js";

const ENTRIES_MAX = 800; // of a conversation; older ones go
const PRIVATE_MAX = 100; // conversations; the one that was quiet for longest goes
const NAMED_MAX = 3; // of those who came or went, in one line

const rooms = new Map(); // by name
let privates = []; // the latest first

/** The conversation on the screen. */
export let current = null;
let isAttended = true; // its end is on a screen that somebody looks at

/**
 * One conversation. An entry has a `kind` ("message", "image", "presence", "notice"), and what was said has
 * `fromId`, `fromName`, `text` or `url`, `timestamp`, in rooms an `id`, and if it is our own a `state`
 * ("waiting", "sending", "sent", "failed"). Entries with an id are in the order of their ids.
 */
class Conversation {
  entries = [];
  byId = new Map();
  lastId = 0; // the highest seen
  unread = 0;
  draft = "";
  isEnded = false;

  constructor(kind, key, name) {
    Object.assign(this, { kind, key, name });
  }

  get isRoom() {
    return this.kind === "room";
  }
}

export function room(name) {
  if (!rooms.has(name)) rooms.set(name, new Conversation("room", name, name));
  return rooms.get(name);
}

/** The conversation with the user of that id, begun if there is none. */
export function privately(id, name) {
  let found = privates.find(({ key, isEnded }) => key === id && !isEnded);
  if (!found) {
    found = new Conversation("private", id, name);
    privates.unshift(found);
    const quiet = privates.findLast((conversation) => conversation !== current);
    if (privates.length > PRIVATE_MAX) privates = privates.filter((conversation) => conversation !== quiet);
  }
  found.name = name;
  emit("conversations");
  return found;
}

export const privateList = () => privates;

export function renamePrivate(id, name) {
  if (privates.some(({ key, isEnded }) => key === id && !isEnded)) privately(id, name);
}

/** Another life of the server gives the same ids to other people: nothing may be sent to them. */
export function endPrivates() {
  for (const conversation of privates) conversation.isEnded = true;
  emit("conversations");
}

export function show(conversation) {
  if (current === conversation) return;
  current = conversation;
  emit("current");
  attend(true);
}

/** Whether the end of the current conversation is being looked at. */
export function attend(isLookedAt) {
  isAttended = isLookedAt;
  if (!isAttended || !current?.unread) return;
  current.unread = 0;
  emit("conversations");
}

export const unreadElsewhere = () => unreadIn((conversation) => conversation !== current);
export const unreadTotal = () => unreadIn(() => true);

function unreadIn(isCounted) {
  const counted = [...rooms.values(), ...privates].filter(isCounted);
  return counted.reduce((sum, { unread }) => sum + unread, 0);
}

/** Adds what came last. */
export function add(conversation, entry) {
  conversation.entries.push(entry);
  if (entry.id) know(conversation, entry);
  if (conversation.entries.length > ENTRIES_MAX) {
    const gone = conversation.entries.shift();
    if (conversation.byId.get(gone.id) === gone) conversation.byId.delete(gone.id);
  }
  if (entry.isUnread && !(conversation === current && isAttended && !document.hidden)) {
    entry.isFirstNew = conversation.unread++ === 0;
    emit("conversations");
  }
  if (!conversation.isRoom && entry.timestamp && privates[0] !== conversation) {
    privates = [conversation, ...privates.filter((other) => other !== conversation)];
    emit("conversations");
  }
  emit("entry", conversation, entry);
}

function know(conversation, entry) {
  conversation.byId.set(entry.id, entry);
  conversation.lastId = Math.max(conversation.lastId, entry.id);
}

/** Gives an own message its place among the others, which it has by its id. */
export function place(conversation, entry, id) {
  entry.id = id;
  const { entries } = conversation;
  const index = entries.indexOf(entry);
  if (index < 0) return;
  know(conversation, entry);
  let target = entries.findLastIndex((other) => other !== entry && other.id < id);
  if (target > index || entries.slice(target + 1, index).some((other) => other.id > id)) {
    entries.splice(index, 1);
    target = entries.findLastIndex((other) => other.id < id) + 1;
    entries.splice(target, 0, entry);
  }
  emit("changed", conversation, entry);
}

/** Ids from another life of the server say nothing about those of this one. */
export function forgetIds(conversation) {
  conversation.byId.clear();
  conversation.lastId = 0;
  for (const entry of conversation.entries) entry.id = undefined;
}

export function notice(conversation, text, isBad = false) {
  if (conversation) add(conversation, { kind: "notice", text, isBad });
}

/** Somebody came (`"came"`) or went (`"left"`). Those who follow one another share a line. */
export function passed(conversation, way, name) {
  const last = conversation.entries.at(-1);
  const entry = last?.kind === "presence" ? last : { kind: "presence", came: [], left: [], cameCount: 0, leftCount: 0 };
  entry[`${way}Count`]++;
  entry[way] = [name, ...entry[way]].slice(0, NAMED_MAX);
  if (entry === last) emit("changed", conversation, entry);
  else add(conversation, entry);
}
