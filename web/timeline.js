// The end of the current conversation, line by line. However fast a room talks, the page changes once per
// frame and holds a bounded number of lines.

import * as conversations from "./conversations.js";
import { at, avatar, button, element, link, linked, oncePerFrame, people, person, phrase, visible } from "./element.js";
import { calendar, clock, words } from "./words.js";
import { emit, listen } from "./signal.js";
import { enqueue } from "./outbox.js";

const LINES_MAX = 300; // twice as many while somebody reads further up
const NEAR_END_PX = 80;
const GROUP_S = 300; // what somebody says within this time stands under one name
const SPOKEN_MAX = 3; // lines in one frame

const log = at("timeline");
const pill = at("to-end");
let fresh = []; // entries that are not on the page yet
let isAtEnd = true;

const paint = oncePerFrame(flush);

function flush() {
	log.querySelector(".hello")?.remove();
	// A screen reader cannot follow a room that talks faster than it.
	log.ariaLive = fresh.length > SPOKEN_MAX ? "off" : "polite";
	fresh.splice(0).forEach(append);
	const extra = log.childElementCount - LINES_MAX * (isAtEnd ? 1 : 2);
	for (let n = 0; n < extra; n++) log.firstElementChild.remove();
	if (extra > 0) dress(log.firstElementChild);
	if (!log.firstElementChild) {
		const text = words(conversations.current.isRoom ? "hello" : "helloPrivate");
		log.append(element("li", { className: "hello notice" }, text));
	}
	follow();
}

function append(entry) {
	const line = (entry.line ??= element("li", { entry }));
	fill(line, entry);
	log.append(line);
	dress(line);
}

function fill(line, entry) {
	const { timestamp, fromId, fromName, state, isBad } = entry;
	if (!timestamp) {
		line.className = isBad ? "notice bad" : "notice";
		return line.replaceChildren(...told(entry));
	}
	line.className = state ? "speech own" : "speech";
	line.dataset.state = state ?? "";
	const date = new Date(timestamp * 1000);
	const isToday = date.toDateString() === new Date().toDateString();
	const time = element("time", { dateTime: date.toISOString(), title: date.toLocaleString() }, (isToday ? clock : calendar).format(date));
	const author = button({ className: "author", onclick: () => emit("person", fromId, fromName) }, person(fromName));
	const content = entry.url ? picture(entry) : element("div", { className: "text", dir: "auto" }, ...linked(entry.text));
	const said = element("div", { className: "said" }, element("p", { className: "head" }, author, time), content);
	if (state) said.append(mark(entry));
	line.replaceChildren(avatar(fromId, fromName), said);
}

function told({ notice, names, way, who }) {
	if (notice) return [notice];
	return names ? phrase("renamed", ...names.map(person)) : phrase(way, people(who));
}

/** How far an own message has come. */
function mark(entry) {
	const { state, reason, readers, conversation } = entry;
	const isRead = state === "sent" && readers.size > 0;
	const text = isRead ? words("read", readers.size) : reason ?? words(state);
	const made = element("span", { className: "mark", title: text });
	if (state !== "failed") made.append(element("span", { ariaHidden: "true" }, isRead ? "✓✓" : state === "sent" ? "✓" : "…"), element("span", { className: "unseen" }, text));
	else made.append(`⚠ ${text} `, ...(conversation.isEnded ? [] : [button({ className: "soft", onclick: () => enqueue(entry) }, words("retry"))]));
	return made;
}

/** An image of somebody else's is fetched only when asked for: whoever serves it sees who looks. */
function picture({ url, fromName, state }) {
	const box = element("div", { className: "picture" });
	if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) return box.append(url), box;
	const address = link(url, new URL(url).host);
	const load = () => {
		const image = element("img", { alt: words("imageFrom", visible(fromName)), referrerPolicy: "no-referrer", onload: follow });
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
	if (entry.isFirstNews) line.prepend(element("p", { className: "rule" }, words("fresh")));
}

function follow() {
	if (isAtEnd) log.scrollTop = log.scrollHeight;
	conversations.attend(isAtEnd && !document.hidden);
	const unread = conversations.current?.unread;
	pill.hidden = isAtEnd;
	pill.textContent = unread ? words("newMessages", unread) : words("toEnd");
}

log.onscroll = () => {
	const was = isAtEnd;
	isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
	if (was !== isAtEnd) follow();
};
pill.onclick = () => {
	isAtEnd = true;
	follow();
};
new ResizeObserver(follow).observe(log);
document.addEventListener("visibilitychange", follow);

listen("current", () => {
	log.replaceChildren();
	fresh = conversations.current.entries.slice(-LINES_MAX);
	isAtEnd = true;
	paint();
});
listen("entry", (conversation, entry) => {
	if (conversation !== conversations.current) return;
	fresh.push(entry);
	if (fresh.length > LINES_MAX) fresh.shift();
	if (entry.state) isAtEnd = true;
	paint();
});
listen("changed", (conversation, entry) => {
	if (conversation !== conversations.current) return;
	// An own message may have to move between others, which must be there then.
	if (entry.state && fresh.length) flush();
	const { line } = entry;
	if (!line?.isConnected) return;
	fill(line, entry);
	const { entries } = conversation;
	const before = entries[entries.indexOf(entry) - 1]?.line;
	if (before?.isConnected && before !== line.previousElementSibling) before.after(line);
	dress(line);
	if (line.nextElementSibling) dress(line.nextElementSibling);
	paint();
});
