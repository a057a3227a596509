// The end of the current talk. However fast a room is, the page changes once per frame, by a few lines.

import * as chat from "./chat.js";
import * as talks from "./talks.js";
import { at, button, node, perFrame } from "./elements.js";
import { avatar, link, linked, people, person, phrase, visible } from "./node.js";
import { calendar, clock, words } from "./words.js";
import { emit, on } from "./signal.js";
import { enqueue } from "./outbox.js";

const LINES_MAX = 300; // more while somebody reads further up
const NEAR_END_PX = 80;
const GROUP_S = 300; // within which one name is enough
const SPOKEN_MAX = 3; // lines in one frame
const ADDED_MAX = 30; // lines in one frame; more wait for the next
const OLDER_MAX = 100; // lines that come at once when somebody scrolls up
const NEAR_START_PX = 200;

const log = at("timeline");
const pill = at("to-end");
let fresh = []; // entries that are not on the page yet
let isAtEnd = true;
let heightPx = 0; // of the log, when it was last looked at

const paint = perFrame(() => {
	if (log.firstElementChild?.matches(".hello")) log.replaceChildren();
	// A screen reader cannot follow a room that talks faster than it.
	log.ariaLive = fresh.length > SPOKEN_MAX ? "off" : "polite";
	fresh.splice(0, ADDED_MAX).forEach(put);
	const extra = log.childElementCount - (isAtEnd ? LINES_MAX : talks.READ_MAX);
	for (let n = 0; n < extra; n++) log.firstElementChild.remove();
	if (extra > 0) dress(log.firstElementChild);
	if (fresh.length) paint();
	else if (!log.firstElementChild) {
		const text = words(talks.current.isRoom ? "hello" : "helloPrivate");
		log.append(node("li.hello notice", {}, text));
	}
	follow();
});

/** Fills the line of an entry, and puts it behind those before it. */
function put(entry) {
	const line = (entry.line ??= node("li", { entry }));
	const { entries } = talks.current;
	let index = entries.lastIndexOf(entry);
	if (index < 0) {
		const after = line.nextElementSibling;
		line.remove();
		return after && dress(after);
	}
	fill(line, entry);
	while (index-- > 0 && !entries[index].line?.isConnected);
	const before = entries[index]?.line;
	if (!line.isConnected || line.previousElementSibling !== (before ?? null)) before ? before.after(line) : log.prepend(line);
	dress(line);
	if (line.nextElementSibling) dress(line.nextElementSibling);
}

/** Shows what was said before the first line: what the page has, or else what the server keeps. The place stays. */
function showOlder() {
	const { current } = talks;
	const first = current.entries.indexOf(log.firstElementChild?.entry);
	if (first === 0) return chat.fetchOlder(current);
	const belowPx = log.scrollHeight - log.scrollTop;
	current.entries.slice(Math.max(0, first - OLDER_MAX), Math.max(0, first)).reverse().forEach(put);
	log.scrollTop = log.scrollHeight - belowPx;
}

function fill(line, entry) {
	const { timestamp, fromId, fromName, account, state, isBad } = entry;
	if (!timestamp) {
		line.className = isBad ? "notice bad" : "notice";
		return line.replaceChildren(...told(entry));
	}
	line.className = state ? "speech own" : "speech";
	line.dataset.state = state ?? "";
	const date = new Date(timestamp * 1000);
	const isToday = date.toDateString() === new Date().toDateString();
	const time = node("time", { dateTime: date.toISOString(), title: calendar.format(date) }, (isToday ? clock : calendar).format(date));
	const author = button({ className: "author", onclick: () => emit("person", fromId, fromName, account) }, person(fromName));
	const content = entry.url ? picture(entry) : node("div.text", { dir: "auto" }, ...linked(entry.text));
	const said = node("div.said", {}, node("p.head", {}, author, time), content);
	if (state) said.append(mark(entry));
	line.replaceChildren(avatar(fromId, fromName), said);
}

function told({ notice, names, way, who }) {
	if (notice) return [notice];
	return names ? phrase("renamed", ...names.map(person)) : phrase(way, people(who));
}

function mark(entry) {
	const { state, reason, readers, talk } = entry;
	const isRead = state === "sent" && readers.size > 0;
	const text = isRead ? words("read", readers.size) : reason ?? words(state);
	const made = node("span.mark", { title: text });
	if (state !== "failed") {
		made.append(isRead ? "✓✓" : state === "sent" ? "✓" : "…");
		return Object.assign(made, { role: "img", ariaLabel: text });
	}
	made.append(`⚠ ${text} `, talk.isEnded ? "" : button({ className: "soft", onclick: () => enqueue(entry) }, words("retry")));
	return made;
}

/** Images of others are fetched only when asked for: their servers see who looks. */
function picture({ url, fromName, state }) {
	const box = node("div.picture", {});
	if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) return box.append(url), box;
	const address = link(url, new URL(url).host);
	const load = () => {
		const image = node("img", { alt: words("imageFrom", visible(fromName)), referrerPolicy: "no-referrer", onload: follow });
		image.onerror = () => image.replaceWith(words("imageBad"));
		image.src = url;
		box.replaceChildren(image, address);
	};
	box.append(button({ className: "soft", onclick: load }, words("showImage")), address);
	if (state) load();
	return box;
}

/** What a line looks like depends on the one before it. */
function dress(line) {
	const { entry } = line;
	line.querySelector(".rule")?.remove();
	if (!entry?.timestamp) return;
	const above = line.previousElementSibling?.entry;
	const isFollowing = !entry.isFirstNews && above?.fromId === entry.fromId && above.fromName === entry.fromName &&
		!above.state === !entry.state && entry.timestamp - above.timestamp < GROUP_S;
	line.classList.toggle("following", isFollowing);
	if (entry.isFirstNews) line.prepend(node("p.rule", {}, words("fresh")));
}

function follow() {
	if (isAtEnd) log.scrollTop = log.scrollHeight;
	talks.attend(isAtEnd && !document.hidden);
	const unread = talks.current?.unread;
	heightPx = log.clientHeight;
	pill.hidden = isAtEnd;
	pill.textContent = unread ? words("newMessages", unread) : words("toEnd");
}

log.onscroll = () => {
	if (log.clientHeight !== heightPx) return; // What made room for something else, nobody has scrolled.
	const was = isAtEnd;
	isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
	if (was !== isAtEnd) follow();
	if (!isAtEnd && log.scrollTop < NEAR_START_PX) showOlder();
};
pill.onclick = () => {
	isAtEnd = true;
	follow();
};
new ResizeObserver(follow).observe(log);
document.addEventListener("visibilitychange", follow);

on("current", () => {
	log.replaceChildren();
	fresh = talks.current.entries.slice(-LINES_MAX);
	isAtEnd = true;
	paint();
});
on("entry", (talk, entry) => {
	if (talk !== talks.current) return;
	fresh.push(entry);
	if (fresh.length > LINES_MAX) fresh.shift();
	if (entry.state) isAtEnd = true;
	paint();
});
on("older", (talk) => talk === talks.current && !isAtEnd && showOlder());
on("changed", (talk, entry) => {
	if (talk !== talks.current || !entry.line?.isConnected) return;
	put(entry);
	paint();
});
