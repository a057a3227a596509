// What was said, on the screen: the end of the current conversation, line by line. However fast a room
// talks, the page changes once per frame and holds a bounded number of lines.

import * as conversations from "./conversations.js";
import { at, avatar, element, icon, linked, oncePerFrame, person, visible } from "./element.js";
import { calendar, clock, list, count, words } from "./words.js";
import { listen } from "./signal.js";
import { retry } from "./outbox.js";

const LINES_MAX = 300; // twice as many while somebody reads further up
const NEAR_END_PX = 80;
const GROUP_S = 300; // what somebody says within this time stands under one name
const ANNOUNCE_MS = 1_500;

const log = at("timeline");
const nodes = new WeakMap(); // entry → its line
const entries = new WeakMap(); // line → its entry
let fresh = []; // entries that are not on the page yet
let isAtEnd = true;
let openPerson = () => {};

/** `open(id, name)` is called when the name of an author is chosen. */
export function onPerson(open) {
  openPerson = open;
}

function flush() {
  const shown = fresh.splice(0);
  log.querySelector(".hello")?.remove();
  for (const entry of shown) append(entry);
  trim();
  if (!log.firstElementChild) log.append(hello());
  if (isAtEnd) toEnd();
  announce(shown.filter(({ isUnread }) => isUnread));
  showPill();
}

const paint = oncePerFrame(flush);

function append(entry) {
  const line = nodes.get(entry) ?? element("li");
  nodes.set(entry, line);
  entries.set(line, entry);
  fill(line, entry);
  log.append(line);
  dress(line);
}

function trim() {
  const max = isAtEnd ? LINES_MAX : 2 * LINES_MAX;
  if (log.childElementCount <= max) return;
  while (log.childElementCount > max) log.firstElementChild.remove();
  dress(log.firstElementChild);
}

function rebuild() {
  log.replaceChildren();
  fresh = conversations.current.entries.slice(-LINES_MAX);
  isAtEnd = true;
  paint();
}

const hello = () =>
  element("li", { className: "hello" }, icon("mark"), element("p", {}, words(conversations.current?.isRoom ? "hello" : "helloPrivate")));

// ---- A line ----------------------------------------------------------------------------------------

const FILL = {
  message: (entry) => [element("div", { className: "text", dir: "auto" }, ...linked(entry.text))],
  image: (entry) => [picture(entry)],
  notice: ({ text }) => [text],
  renamed: ({ names }) => phrase(words("renamed"), ...names.map(person)),
  presence: ({ came, left, cameCount, leftCount }) => [
    ...(cameCount ? phrase(words("came"), people(came, cameCount)) : []),
    ...(cameCount && leftCount ? [" · "] : []),
    ...(leftCount ? phrase(words("left"), people(left, leftCount)) : []),
  ],
};

/** The words with elements in the place of each `#`. */
function phrase(text, ...parts) {
  return text.split("#").flatMap((piece, index) => (index ? [parts[index - 1], piece] : [piece]));
}

function people(names, total) {
  const more = total - names.length;
  const listed = names.flatMap((name, index) => (index ? [", ", person(name)] : [person(name)]));
  return element("span", {}, ...listed, ...(more ? [` ${words("more", more)}`] : []));
}

function fill(line, entry) {
  line.className = entry.kind;
  line.classList.toggle("own", entry.isOwn === true);
  line.classList.toggle("bad", entry.isBad === true);
  const content = FILL[entry.kind](entry);
  if (!entry.timestamp) return line.replaceChildren(...content);
  line.dataset.state = entry.state ?? "";
  const date = new Date(entry.timestamp * 1000);
  const time = element("time", { dateTime: date.toISOString(), title: date.toLocaleString(), textContent: clock.format(date) });
  const author = element("button", { type: "button", className: "author" }, person(entry.fromName));
  author.onclick = () => openPerson(entry.fromId, entry.fromName);
  const head = element("p", { className: "head" }, author, time);
  const said = element("div", { className: "said" }, head, ...content);
  if (entry.isOwn) said.append(mark(entry));
  line.replaceChildren(avatar(entry.fromId, entry.fromName), said);
}

/** How far an own message has come. */
function mark(entry) {
  const { state, reason, readers } = entry;
  const isRead = state === "sent" && readers.size > 0;
  const name = isRead ? "read" : state === "waiting" ? "sending" : state;
  const text = isRead ? words("readBy", readers.size) : reason ?? words(name);
  const made = element("span", { className: "mark", title: text }, icon(name));
  made.append(element("span", { className: state === "failed" ? "" : "unseen", textContent: text }));
  if (state === "failed" && !entry.conversation.isEnded) {
    const again = element("button", { type: "button", className: "again", textContent: words("retry") });
    again.onclick = () => retry(entry);
    made.append(again);
  }
  return made;
}

/** An image of somebody else's is fetched only when asked for: whoever serves it sees who looks. */
function picture({ url, isOwn, fromName }) {
  const box = element("div", { className: "picture" });
  const isWeb = URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
  if (!isWeb) return box.append(url), box;
  const link = element("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", className: "address" }, new URL(url).host);
  const load = () => {
    const image = element("img", { alt: words("imageFrom", visible(fromName)), decoding: "async", referrerPolicy: "no-referrer" });
    image.onload = () => isAtEnd && toEnd();
    image.onerror = () => box.replaceChildren(element("p", { className: "hint" }, words("imageBad")), link);
    image.src = url;
    box.replaceChildren(image, link);
  };
  if (isOwn) return load(), box;
  const show = element("button", { type: "button", textContent: words("showImage"), onclick: load });
  box.append(show, link, element("span", { className: "hint" }, words("imageHint")));
  return box;
}

/** What a line looks like depends on the one before it. */
function dress(line) {
  const entry = entries.get(line);
  const before = entries.get(line?.previousElementSibling);
  line?.querySelector(":scope > .rule")?.remove();
  if (!entry?.timestamp) return;
  const day = calendar.format(entry.timestamp * 1000);
  const isNewDay = !lastDay(line) || lastDay(line) !== day;
  const isFollowing = !isNewDay && !entry.isFirstNew && before?.fromId === entry.fromId && before.fromName === entry.fromName &&
    before.isOwn === entry.isOwn && entry.timestamp - before.timestamp < GROUP_S;
  line.dataset.day = day;
  line.classList.toggle("following", isFollowing);
  const rules = [isNewDay && dayName(entry.timestamp, day), entry.isFirstNew && words("newLine")].filter(Boolean);
  if (rules.length) line.prepend(element("p", { className: `rule${entry.isFirstNew ? " new" : ""}` }, element("span", {}, rules.join(" · "))));
}

function lastDay(line) {
  for (let before = line.previousElementSibling; before; before = before.previousElementSibling) {
    if (before.dataset.day) return before.dataset.day;
  }
}

const DAY_MS = 86_400_000;

function dayName(timestamp, day) {
  if (day === calendar.format(Date.now())) return words("today");
  return day === calendar.format(Date.now() - DAY_MS) ? words("yesterday") : day;
}

// ---- Following the end -----------------------------------------------------------------------------

function toEnd() {
  log.scrollTop = log.scrollHeight;
}

function attend() {
  conversations.attend(isAtEnd && !document.hidden);
}

log.onscroll = () => {
  const was = isAtEnd;
  isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
  if (was === isAtEnd) return;
  attend();
  showPill();
};
new ResizeObserver(() => isAtEnd && toEnd()).observe(log);
document.addEventListener("visibilitychange", attend);

const pill = at("to-end");
pill.onclick = () => {
  isAtEnd = true;
  toEnd();
  attend();
  showPill();
};

function showPill() {
  const unread = conversations.current?.unread ?? 0;
  pill.hidden = isAtEnd;
  pill.lastElementChild.textContent = unread ? words("newMessages", unread) : words("toEnd");
}

// A screen reader cannot follow a room that talks faster than it: it is told at a pace, and how many there were.
let unsaid = [];
let announceTimer = 0;

function announce(some) {
  unsaid.push(...some);
  if (unsaid.length) announceTimer ||= setTimeout(speak, ANNOUNCE_MS);
}

function speak() {
  announceTimer = 0;
  const told = unsaid.splice(0).map((entry) => `${visible(entry.fromName)}: ${entry.text ?? words("image")}`);
  at("announcer").textContent = told.length > 3 ? words("newMessages", told.length) : told.join("\n");
}

// ---- Changes ---------------------------------------------------------------------------------------

listen("current", rebuild);
listen("entry", (conversation, entry) => {
  if (conversation !== conversations.current) return;
  fresh.push(entry);
  if (fresh.length > LINES_MAX) fresh.shift();
  if (entry.isOwn) isAtEnd = true;
  paint();
});
listen("changed", (conversation, entry) => {
  // An own message may have to move between others, which must be there then.
  if (entry.isOwn && conversation === conversations.current && fresh.length) flush();
  const line = nodes.get(entry);
  if (conversation !== conversations.current || !line?.isConnected) return;
  fill(line, entry);
  const { entries } = conversation;
  const before = nodes.get(entries[entries.indexOf(entry) - 1]);
  if (before?.isConnected && before !== line.previousElementSibling) before.after(line);
  dress(line);
  if (line.nextElementSibling) dress(line.nextElementSibling);
  if (isAtEnd) paint();
});
