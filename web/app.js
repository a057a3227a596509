// What is around the timeline: where we are, the talks to choose from, and the sides, on a narrow screen drawers.

import * as chat from "./chat.js";
import * as roster from "./roster.js";
import * as talks from "./talks.js";
import { greet } from "./dialogs.js";
import { at, button, icon, label, node, perFrame } from "./elements.js";
import { apart, avatar, person } from "./node.js";
import { calendar, count, translate, words } from "./words.js";
import { emit, on } from "./signal.js";

on("current talks rooms roster me", perFrame(() => {
	const { current, privates } = talks;
	const { joined, me, rooms } = chat;
	replace(at("rooms"), [...rooms].map(([name, members]) => {
		const size = name === joined?.key ? roster.online : members;
		const parts = ["# ", label(node("bdi", {}, name)), node("small.size", {}, count(size))];
		return item(talks.room(name), parts, () => chat.enterRoom(name));
	}));
	at("private-hint").hidden = privates.length > 0;
	replace(at("private"), privates.map((one) => item(one, [avatar(one.id, one.name), label(person(one.name))], () => talks.show(one))));
	const unread = talks.unreadBut(null);
	document.title = `${unread ? `(${count(unread)}) ` : ""}${current ? `${apart(current.name)} – ` : ""}Uproar`;
	at("elsewhere").hidden = !talks.unreadBut(current);
	at("me").replaceChildren(avatar(me.id, me.name), label(person(me.name), node("small", {}, words(me.isAdmin ? "admin" : "name"))), me.isSignedIn ? "" : icon("edit"));
	at("me").hidden = !me.name;
	const ended = current?.isEnded && words("ended", apart(current.name));
	const barrier = chat.obstacle || ended || (me.mutedUntil && words("muted", calendar.format(me.mutedUntil)));
	at("barrier").textContent = barrier || "";
	at("barrier").hidden = !barrier;
	if (!current) return;
	at("title").replaceChildren(current.isRoom ? "# " : "", person(current.name));
	at("subtitle").textContent = current === joined ? words("online", roster.online) : current.isRoom ? "" : words("direct");
}));

function item(talk, parts, choose) {
	const isCurrent = talk && talk === talks.current;
	const made = button({ ariaCurrent: isCurrent ? "true" : null, className: talk?.isEnded ? "ended" : "" }, ...parts);
	if (talk?.unread) made.append(node("span.unread", { title: words("newMessages", talk.unread) }, count(talk.unread)));
	made.onclick = () => {
		choose();
		emit("chosen");
	};
	return node("li", {}, made);
}

/** Replaces the items. The focused one stays so. */
function replace(list, items) {
	const focused = [...list.children].indexOf(document.activeElement.parentElement);
	list.replaceChildren(...items);
	items[Math.min(focused, items.length - 1)]?.firstElementChild.focus();
}

on("status", (name, text) => {
	at("state").dataset.state = name;
	at("state").textContent = text;
	at("reconnect").hidden = name !== "lost" && name !== "closed";
});
at("reconnect").onclick = chat.connect;

const main = document.querySelector("main");
const sides = [["talks", "46rem"], ["members-panel", "66rem"]].map(([id, width]) => ({
	panel: at(id), opener: main.querySelector(`[aria-controls=${id}]`), narrow: matchMedia(`(max-width: ${width})`),
}));
let opened = null;

/** Opens one drawer, or none. What is closed, no key and no screen reader reaches. */
function open(side) {
	const before = opened;
	opened = side;
	for (const { panel, opener, narrow } of sides) {
		const isOpen = panel === opened?.panel;
		panel.classList.toggle("drawer", narrow.matches);
		panel.classList.toggle("open", isOpen);
		panel.inert = narrow.matches && !isOpen;
		opener.ariaExpanded = String(isOpen);
	}
	main.inert = Boolean(opened);
	document.body.classList.toggle("covered", main.inert);
	if (opened) opened.panel.querySelector(".close").focus();
	else before?.opener.focus();
}

for (const side of sides) {
	side.opener.onclick = () => open(side);
	side.panel.querySelector(".close").onclick = () => open(null);
	side.narrow.onchange = () => open(null);
}
document.addEventListener("keydown", ({ key }) => key === "Escape" && opened && open(null));
document.addEventListener("click", ({ target }) => opened && !target.closest(".drawer, .opener") && open(null));
on("chosen", () => opened && open(null));

const find = at("find-room");
find.oninput = () => chat.findRooms(find.value.trim());
find.form.onsubmit = (event) => {
	event.preventDefault();
	const name = find.value.trim();
	if (!name || !chat.joined) return;
	chat.enterRoom(name);
	find.value = "";
	chat.findRooms("");
	emit("chosen");
};

translate();
open(null);
greet();
