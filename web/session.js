// The chat dialect: what the server says becomes conversations, members and marks, and how one comes back
// after a broken line or to another room without missing or doubling anything.

import * as connection from "./connection.js";
import * as outbox from "./outbox.js";
import * as roster from "./roster.js";
import * as conversations from "./conversations.js";
import { add, endPrivates, forgetIds, notice, passed, privately, renamePrivate, room, show } from "./conversations.js";
import { emit } from "./signal.js";
import { refusal, words, clock } from "./words.js";
import { store, stored } from "./element.js";

const LIFE_TOLERANCE_S = 1; // both times that tell when the server began are whole seconds
const SAME_MESSAGE_S = 5;
const SIGN_IN = 4000; // our own reason to close: nothing can be done before
const HERE = "general";

export const me = { id: 0, name: "", isAdmin: false, isSignedIn: false, mutedUntil: 0 };
/** The room that we are in. */
export let joined = null;
export const rooms = new Map(); // name → members
export const state = { name: "connecting", text: "" };

let credentials = null; // kept to come back with, as long as the page is open
let beganAt = 0; // of the server's life, in Unix seconds
let kickedFor = null;
let isFull = false;
let muteTimer = 0;

// Rooms whose history has been asked for, in order. `skip`: a history that another one will repeat.
// `isReturn`: until we are there, events tell of another room, or of what the history will repeat.
let arrivals = [];

const isAway = () => arrivals[0]?.skip || (arrivals[0]?.isReturn && !arrivals[0].isThere);

outbox.sendWhen((conversation) => !arrivals.length && (!conversation.isRoom || conversation === joined));

function become(name, text = "") {
  Object.assign(state, { name, text });
  emit("status");
}

// ---- What the user wants ---------------------------------------------------------------------------

export function begin() {
  become("connecting");
  connection.start({ opened, received, closed });
}

export function reconnect() {
  become("connecting");
  connection.open();
}

/** Goes to a room; what was said there since our last visit comes with its history. */
export function enterRoom(name) {
  const entered = room(name);
  if (entered === joined && !arrivals.length) return show(joined);
  const after = entered.lastId;
  const message = after ? { type: "resume", room: name, after } : { type: "join_room", room: name };
  if (connection.send(message)) arrivals.push({ room: name, after });
}

export function rename(name) {
  return connection.send({ type: "set_name", name });
}

export function signIn(username, password) {
  credentials = { username, password };
  if (!connection.isOpen()) return reconnect();
  connection.send({ type: "auth", ...credentials });
}

/** An admin's command: kick, mute or unmute. */
export function command(type, target_id, extra) {
  connection.send({ type, target_id, ...extra });
}

export function askRooms() {
  if (!document.hidden) connection.send({ type: "get_rooms" });
}

// ---- The connection --------------------------------------------------------------------------------

function opened() {
  isFull = false;
  kickedFor = null;
  if (credentials) connection.send({ type: "auth", ...credentials });
  // Where an account is needed this is answered by saying so.
  else connection.send({ type: "get_rooms" });
}

function closed(code, reason) {
  const wasSigningIn = credentials && !me.isSignedIn;
  me.isSignedIn = me.isAdmin = false;
  arrivals = [];
  outbox.interrupt();
  emit("me");
  if (code === SIGN_IN || (code === 1008 && wasSigningIn)) {
    credentials = null;
    become("closed", words("signIn"));
    emit("sign-in", code === SIGN_IN ? "" : refusal(reason));
    return false;
  }
  // 1008 is a decision about us; asking again at once would be pestering.
  if (code === 1008) {
    const text = kickedFor === null ? `${words("closed")}: ${reason}` : words("kicked", refusal(kickedFor));
    notice(conversations.current, text, true);
    become("closed", text);
    outbox.resolve();
    return false;
  }
  become("lost", words(isFull ? "full" : code === 1001 ? "draining" : "lost"));
  return true;
}

function received(data) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    isFull = data === "Server is full"; // said in plain text, to every dialect alike
    return;
  }
  if (!event || !Object.hasOwn(HANDLERS, event.type)) return;
  if (OF_A_ROOM.has(event.type) && (isAway() || !joined)) return;
  HANDLERS[event.type](event.content, event);
}

const OF_A_ROOM = new Set(["message", "image", "join", "leave", "user_renamed", "presence", "typing", "users"]);

// ---- Arriving --------------------------------------------------------------------------------------

function arrive(name) {
  const entered = room(name);
  const isNew = joined !== entered;
  if (joined && isNew) outbox.abandon(joined, words("leftRoom"));
  location.replace(`#${new URLSearchParams({ room: name })}`);
  const wasShown = conversations.current === joined || !conversations.current;
  joined = entered;
  if (isNew) {
    roster.reset();
    emit("joined");
  }
  emit("rooms");
  if (wasShown || !arrivals[0]?.isReturn) show(entered);
}

const isSame = (entry, { sender, content, timestamp }) =>
  entry && entry.fromName === sender && Math.abs(entry.timestamp - timestamp) <= SAME_MESSAGE_S &&
  (entry.url ? entry.url === content?.url : entry.text === content);

/** Adds of a history what is not there yet, and says so where something is missing. */
function merge(list, after, isReturn) {
  const isVisited = joined.lastId > 0;
  const isContinued = list.some((message) => isSame(joined.byId.get(message.message_id), message));
  if (isVisited && after === 0 && !isContinued) {
    // Nothing that we know: either it is no longer kept, or this is another life of the server.
    const isLater = list.length > 0 && list[0].message_id > joined.lastId;
    notice(joined, words(isLater ? "gap" : "anew"), true);
    if (!isLater) forgetIds(joined);
  } else if (isReturn && isVisited) {
    notice(joined, words("back"));
  }
  const known = joined.lastId;
  for (const message of list) {
    if (outbox.recognise(joined, message) || message.message_id <= known) continue;
    add(joined, said(message.message_id, message.from_id, message.sender, message.content, message.timestamp));
  }
}

function said(id, fromId, fromName, content, timestamp) {
  const isImage = typeof content === "object" && content !== null;
  const what = isImage ? { kind: "image", url: String(content.url) } : { kind: "message", text: String(content) };
  return { ...what, id, fromId, fromName, timestamp, isUnread: true };
}

const HANDLERS = {
  welcome({ user_id, user_name, server_stats, room: entered }, { timestamp }) {
    const began = timestamp - server_stats.uptime_seconds;
    const isOtherLife = Math.abs(began - beganAt) > LIFE_TOLERANCE_S;
    if (isOtherLife && beganAt) endPrivates();
    beganAt = began;
    Object.assign(me, { id: user_id, name: user_name });
    become("open");
    emit("me");
    const wanted = stored("name");
    if (wanted && wanted !== user_name && !credentials) rename(wanted);
    connection.send({ type: "get_rooms" });
    if (!joined) {
      arrivals = [{ room: entered, after: 0, isThere: true }];
      arrive(entered);
      const linked = new URLSearchParams(location.hash.slice(1)).get("room");
      if (linked && linked !== entered) enterRoom(linked);
      return;
    }
    const after = isOtherLife ? 0 : outbox.doubtfulAfter(joined);
    connection.send({ type: "resume", room: joined.key, after });
    arrivals = [{ skip: true }, { room: joined.key, after, isReturn: true }];
  },

  auth_success({ user_name, is_admin }) {
    Object.assign(me, { name: user_name, isAdmin: is_admin === true, isSignedIn: true });
    emit("me");
  },

  room_joined({ room: entered }) {
    if (arrivals[0]) arrivals[0].isThere = true;
    arrive(entered);
    askRooms();
  },

  users: (list, { total }) => roster.list(list, total),

  history(list, { complete }) {
    const arrival = arrivals.shift() ?? { after: 0 };
    if (arrival.skip) return;
    if (complete === false && arrival.after > 0) {
      // What is kept may also have begun anew: all of it tells.
      connection.send({ type: "resume", room: arrival.room, after: 0 });
      arrivals.unshift({ ...arrival, after: 0, isThere: false, isReturn: true });
      return;
    }
    merge(list, arrival.after, arrival.isReturn);
    if (!arrivals.length) outbox.resolve();
  },

  rooms(list) {
    rooms.clear();
    for (const { room, users_online } of list) rooms.set(room, users_online);
    emit("rooms");
  },

  message: (content, { message_id, from_id, from_name, timestamp }) =>
    add(joined, said(message_id, from_id, from_name, String(content), timestamp)),

  image: (content, { message_id, from_id, from_name, timestamp }) =>
    add(joined, said(message_id, from_id, from_name, content, timestamp)),

  message_sent: ({ message_id }, { timestamp }) => outbox.acknowledge("room", timestamp, message_id),

  message_read({ message_id, read_by }) {
    // Who has read a message has read those before it.
    for (const entry of joined?.entries ?? []) {
      if (!entry.isOwn || !(entry.id <= message_id) || entry.readers.has(read_by)) continue;
      entry.readers.add(read_by);
      emit("changed", joined, entry);
    }
  },

  private_message(content, { from_id, from_name, timestamp }) {
    if (from_id === me.id) return; // to ourselves: it is there already
    add(privately(from_id, from_name), said(undefined, from_id, from_name, String(content), timestamp));
  },

  private_message_sent: (_, { timestamp }) => outbox.acknowledge("private", timestamp),

  join({ user_id, user_name, users_online }) {
    roster.joined(user_id, user_name, users_online);
    passed(joined, "came", user_name);
  },

  leave({ user_id, user_name, users_online }) {
    roster.left(user_id, users_online);
    passed(joined, "left", user_name);
    emit("typing", user_id, user_name, false);
  },

  user_renamed({ user_id, old_name, new_name }) {
    roster.renamed(user_id, new_name);
    renamePrivate(user_id, new_name);
    add(joined, { kind: "renamed", names: [old_name, new_name] });
  },

  presence(change) {
    if (change.room !== joined.key) return;
    roster.summed(change);
    for (const { id, name } of change.renamed) renamePrivate(id, name);
  },

  typing: ({ user_id, user_name, is_typing }) => emit("typing", user_id, user_name, is_typing === true),

  name_changed({ new_name }) {
    me.name = new_name;
    store("name", new_name);
    roster.renamed(me.id, new_name);
    emit("me");
  },

  kicked({ reason }) {
    kickedFor = String(reason);
  },

  muted({ seconds }) {
    me.mutedUntil = Date.now() + seconds * 1000;
    clearTimeout(muteTimer);
    // Longer than a timer can wait is longer than a page is open.
    muteTimer = setTimeout(HANDLERS.unmuted, Math.min(seconds * 1000, 2 ** 31 - 1));
    emit("me");
    notice(conversations.current, words("mutedUntil", clock.format(me.mutedUntil)), true);
  },

  unmuted() {
    clearTimeout(muteTimer);
    if (!me.mutedUntil) return;
    me.mutedUntil = 0;
    emit("me");
    notice(conversations.current, words("unmuted"));
  },

  error({ message }) {
    const text = refusal(message);
    if (message === "Authentication required") return credentials || connection.close(SIGN_IN, "");
    if (message.startsWith("Invalid name")) return emit("name-refused", text);
    if (message.startsWith("Unknown message:")) return; // a read mark for what is no longer kept
    const unknownType = message.split("Unknown message type: ")[1];
    if (unknownType) return void outbox.refuse(text, ({ type }) => type === unknownType);
    if (message.startsWith("Unknown room: ")) return unknownRoom(message.slice("Unknown room: ".length), text);
    const isOfPrivate = message === "User not found or offline";
    const isOfAdmin = message === "Permission denied";
    if (!isOfAdmin && outbox.refuse(text, ({ type }) => !isOfPrivate || type === "private_message")) return;
    notice(conversations.current, text, true);
  },
};

function unknownRoom(name, text) {
  notice(conversations.current, text, true);
  const wasReturn = arrivals.some((arrival) => arrival.room === name && arrival.isReturn);
  arrivals = arrivals.filter((arrival) => arrival.room !== name);
  if (!wasReturn) return outbox.next();
  // The room that we were in is gone, and the server has put us into the first one meanwhile.
  connection.send({ type: "join_room", room: HERE });
  arrivals.push({ room: HERE, after: 0, isReturn: true });
}
