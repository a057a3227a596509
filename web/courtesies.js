// Typing and read marks: small courtesies, sent sparingly, since each goes to somebody else's screen.

import * as conversations from "./conversations.js";
import * as roster from "./roster.js";
import * as session from "./session.js";
import { at, person } from "./element.js";
import { listen } from "./signal.js";
import { send } from "./connection.js";
import { words } from "./words.js";

const TYPING_AGAIN_MS = 4_000;
const TYPING_LASTS_MS = 7_000; // without being told again
const NAMED_MAX = 3;
const READ_MS = 1_000;
const AUTHORS_MAX = 5; // who are told in one go
// In a crowd each message would bring its author a mark from everyone, and everyone typing would be news.
const CROWD = 100;

const isAmongFew = () => roster.online <= CROWD;

let toldTyping = 0; // when, or 0
let typingTimer = 0;

/** The text of a message has changed. */
export function typed(hasText) {
  clearTimeout(typingTimer);
  const isRoom = conversations.current === session.joined;
  if (!hasText || !isRoom) return stop();
  typingTimer = setTimeout(stop, TYPING_AGAIN_MS);
  if (!isAmongFew() || (toldTyping && performance.now() - toldTyping < TYPING_AGAIN_MS)) return;
  toldTyping = performance.now();
  send({ type: "typing", is_typing: true });
}

function stop() {
  if (toldTyping) send({ type: "typing", is_typing: false });
  toldTyping = 0;
}

const typing = new Map(); // id → { name, timer }

listen("typing", (id, name, isTyping) => {
  clearTimeout(typing.get(id)?.timer);
  typing.delete(id);
  if (isTyping) typing.set(id, { name, timer: setTimeout(() => (typing.delete(id), showTyping()), TYPING_LASTS_MS) });
  showTyping();
});
listen("entry", (conversation, { fromId }) => {
  if (conversation === session.joined && typing.delete(fromId)) showTyping();
});
listen("joined", () => {
  typing.clear();
  unmarked.clear();
  showTyping();
});
listen("current", () => showTyping());

function showTyping() {
  const names = [...typing.values()].map(({ name }) => name);
  const line = at("typing");
  if (!names.length || conversations.current !== session.joined) return line.replaceChildren();
  if (names.length > NAMED_MAX) return line.replaceChildren(words("severalTyping"));
  const [before, after] = words(names.length === 1 ? "typing" : "typingMany").split("#");
  line.replaceChildren(before, ...names.flatMap((name, index) => (index ? [", ", person(name)] : [person(name)])), after);
}

let unmarked = new Map(); // author → the last id of theirs that was read
let readTimer = 0;

listen("entry", (conversation, { id, fromId, isOwn }) => {
  if (conversation !== session.joined || !id || isOwn || !isAmongFew()) return;
  unmarked.set(fromId, id);
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
  for (const [fromId, id] of [...unmarked].slice(-AUTHORS_MAX)) {
    if (session.joined.byId.has(id) && fromId !== session.me.id) send({ type: "read", message_id: id });
  }
  unmarked.clear();
}
