// The conversations to choose from, who we are, and where we are.

import * as conversations from "./conversations.js";
import * as roster from "./roster.js";
import * as session from "./session.js";
import { at, avatar, button, element, icon, isolated, label, oncePerFrame, person } from "./element.js";
import { count, words } from "./words.js";
import { emit, listen } from "./signal.js";

listen("current conversations rooms roster me", oncePerFrame(() => {
	const { current, privates } = conversations;
	const { joined, me, rooms } = session;
	replace(at("rooms"), [...rooms].map(([name, members]) => {
		const size = name === joined?.key ? roster.online : members;
		const parts = ["# ", label(element("bdi", {}, name)), element("small", { className: "size" }, count(size))];
		return item(name === joined?.key ? joined : null, parts, () => session.enterRoom(name));
	}));
	at("private-hint").hidden = privates.length > 0;
	replace(at("private"), privates.map((one) => item(one, [avatar(one.key, one.name), label(person(one.name))], () => conversations.show(one))));
	const unread = conversations.unreadBut(null);
	document.title = `${unread ? `(${count(unread)}) ` : ""}${current ? `${isolated(current.name)} – ` : ""}Uproar`;
	at("elsewhere").hidden = conversations.unreadBut(current) === 0;
	const about = words(me.isAdmin ? "admin" : "name");
	at("me").replaceChildren(avatar(me.id, me.name), label(person(me.name), element("small", {}, about)), icon("edit"));
	at("me").hidden = !me.name;
	if (!current) return;
	at("title").replaceChildren(current.isRoom ? "# " : "", person(current.name));
	at("subtitle").textContent = current === joined ? words("online", roster.online) : current.isRoom ? "" : words("direct");
	const { isEnded, name } = current;
	at("barrier").textContent = isEnded ? words("ended", isolated(name)) : me.mutedUntil ? words("muted", new Date(me.mutedUntil).toLocaleString()) : "";
	at("barrier").hidden = !at("barrier").textContent;
}));

function item(conversation, parts, choose) {
	const made = button({}, ...parts);
	if (conversation?.unread) {
		made.lastElementChild.after(element("span", { className: "unread", title: words("unread", conversation.unread) }, count(conversation.unread)));
	}
	if (conversation && conversation === conversations.current) made.ariaCurrent = "true";
	made.classList.toggle("ended", conversation?.isEnded === true);
	made.onclick = () => {
		choose();
		emit("chosen");
	};
	return element("li", {}, made);
}

/** Replaces the items; the one that has the keyboard keeps it. */
function replace(list, items) {
	const focused = [...list.children].indexOf(document.activeElement.parentElement);
	list.replaceChildren(...items);
	items[Math.min(focused, items.length - 1)]?.firstElementChild.focus();
}

listen("status", (name, text) => {
	at("state").dataset.state = name;
	at("state").textContent = text;
	at("reconnect").hidden = name !== "lost" && name !== "closed";
});
at("reconnect").onclick = session.connect;
