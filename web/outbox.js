// What we say, until the server has it. The server answers that a message was sent, not which one; so one is
// under way at a time, and the answer is always to that one.

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
let isReady = () => false; // to send to that conversation

export function sendWhen(readiness) {
  isReady = readiness;
}

/** Says something: `message` is what goes over the wire. */
export function submit(conversation, message, author) {
  const { content, url } = message;
  const entry = { kind: url ? "image" : "message", text: content, url, isOwn: true, state: "waiting", message };
  Object.assign(entry, { conversation, fromId: author.id, fromName: author.name, timestamp: Date.now() / 1000, readers: new Set() });
  add(conversation, entry);
  show(conversation);
  enqueue(entry);
}

/** Says again what has failed. */
export function retry(entry) {
  if (entry.state === "failed" && !entry.conversation.isEnded) enqueue(entry);
}

function enqueue(entry) {
  if (waiting.length >= WAITING_MAX) return become(entry, "failed", words("tooMany"));
  become(entry, "waiting");
  waiting.push(entry);
  next();
}

function become(entry, state, reason) {
  Object.assign(entry, { state, reason });
  emit("changed", entry.conversation, entry);
}

/** Sends the first that waits, if it can be sent. */
export function next() {
  while (!underWay && waiting.length && isReady(waiting[0].conversation)) {
    const entry = waiting[0];
    if (!send(entry.message)) return;
    waiting.shift();
    underWay = entry;
    entry.afterId = entry.conversation.lastId;
    become(entry, "sending");
    answerTimer = setTimeout(() => close(0, ""), ANSWER_MS);
  }
}

function answered() {
  const entry = underWay;
  underWay = null;
  clearTimeout(answerTimer);
  return entry;
}

/** The server has the message of that kind of conversation; in a room it has given it an id. */
export function acknowledge(kind, timestamp, id) {
  if (underWay?.conversation.kind !== kind) return;
  const entry = answered();
  entry.timestamp = timestamp;
  become(entry, "sent");
  if (id) place(entry.conversation, entry, id);
  next();
}

/** The server refused what is under way. False when nothing of the kind is. */
export function refuse(reason, isMeant = () => true) {
  if (!underWay || !isMeant(underWay.message)) return false;
  become(answered(), "failed", reason);
  next();
  return true;
}

/** What waits for that conversation can never be sent. */
export function abandon(conversation, reason) {
  const lost = waiting.filter((entry) => entry.conversation === conversation);
  waiting = waiting.filter((entry) => entry.conversation !== conversation);
  for (const entry of lost) become(entry, "failed", reason);
}

/** The connection ended. What was under way has perhaps arrived. */
export function interrupt() {
  const entry = answered();
  if (!entry) return;
  if (entry.conversation.isRoom) doubtful.push(entry);
  else become(entry, "failed", words("unsure"));
}

/** The own message of which this is the record in the room's history, if it was in doubt. */
export function recognise(conversation, { message_id, sender, content }) {
  const isIt = (entry) => entry.conversation === conversation && message_id > entry.afterId &&
    entry.fromName === sender && (entry.url ? entry.url === content?.url : entry.text === content);
  const entry = doubtful.find(isIt);
  if (!entry) return false;
  doubtful = doubtful.filter((other) => other !== entry);
  become(entry, "sent");
  place(conversation, entry, message_id);
  return true;
}

/** The first id that the history has to be asked for, so that it tells of what is in doubt. */
export function doubtfulAfter(conversation) {
  const afters = doubtful.filter((entry) => entry.conversation === conversation).map(({ afterId }) => afterId);
  return Math.min(conversation.lastId, ...afters);
}

/** The history has been read, and whatever is still in doubt was not in it. */
export function resolve() {
  for (const entry of doubtful) become(entry, "failed", words("unsure"));
  doubtful = [];
  next();
}
