// What is asked for in a window of its own.

import * as chat from "./chat.js";
import { at, button, icon, node } from "./elements.js";
import { avatar, kept, person } from "./node.js";
import { emit, on } from "./signal.js";
import { accountOf } from "./roster.js";
import { privately, show } from "./talks.js";
import { send } from "./connection.js";
import { submit } from "./outbox.js";
import { calendar, words } from "./words.js";

const dialog = at("dialog");
const MUTE_MINUTES = [5, 60, 1440];
const BAN_DAYS = [1, 7, 30, 0]; // 0: for good
const DAY_S = 86_400;
const NAME_CHARACTERS_MAX = 20;
const characters = new Intl.Segmenter();

/** Opens a form; `accept(values)` says whether it is done. */
function ask(aim, title, parts, verb, accept) {
	const close = button({ className: "icon close", title: words("close"), onclick: () => dialog.close() }, icon("close"));
	const header = node("header", {}, node("h2", { id: "dialog-title" }, title), close);
	const done = node("button.primary", { autofocus: true }, verb);
	const form = node("form", {}, header, ...parts, node("p.error", { role: "alert" }), done);
	form.onsubmit = (event) => {
		event.preventDefault();
		say(aim, "");
		if (accept(Object.fromEntries(new FormData(form)))) dialog.close();
	};
	dialog.dataset.aim = aim;
	dialog.replaceChildren(form);
	if (!dialog.open) dialog.showModal();
}

const isFor = (aim) => dialog.open && dialog.dataset.aim === aim;
const say = (aim, text) => isFor(aim) && (dialog.querySelector(".error").textContent = text);
const field = (label, fields) => node("label", {}, label, node("input", { required: true, autofocus: true, ...fields }));

function signIn(error) {
	const parts = [
		field(words("username"), { name: "username", autocomplete: "username" }),
		field(words("password"), { name: "password", type: "password", autocomplete: "current-password" }),
	];
	ask("sign-in", words("signIn"), parts, words("signIn"), ({ username, password }) => chat.signIn(username, password));
	say("sign-in", error);
}

function askName(error = "") {
	const name = chat.me.name || kept("localStorage", "name") || "";
	const parts = [
		field(words("nameHint"), { name: "name", value: name, autocomplete: "nickname" }),
		button({ className: "soft", onclick: () => signIn("") }, words("signIn")),
	];
	ask("name", words("name"), parts, words("save"), (values) => {
		const wanted = values.name.trim();
		if (!wanted || [...characters.segment(wanted)].length > NAME_CHARACTERS_MAX) say("name", words("nameHint"));
		else if (wanted === chat.me.name) return true;
		else return chat.rename(wanted);
	});
	say("name", error);
}

/** Who comes for the first time says a name, or closes the dialog to have one given. */
export function greet() {
	if (kept("localStorage", "name") || kept("sessionStorage", "session")) return chat.connect();
	askName();
	dialog.addEventListener("close", chat.connect, { once: true });
}

on("sign-in", signIn);
on("name-denied", (text) => say("name", text));
on("name-refused", (text) => (isFor("name") ? say("name", text) : askName(text)));
// The name of an account is fixed. An admin finds the bans there.
on("me", () => (at("me").disabled = chat.me.isSignedIn && !chat.me.isAdmin));
on("me", () => (isFor("name") || (isFor("sign-in") && chat.me.isSignedIn)) && dialog.close());
at("me").onclick = () => (chat.me.isAdmin ? listBans() : askName());

at("add-image").onclick = () => {
	const url = field("URL", { name: "url", type: "url", placeholder: "https://", pattern: "https?://.+", maxLength: 2048 });
	ask("image", words("image"), [url], words("send"), ({ url }) => {
		submit(chat.joined, { type: "image", url }, chat.me);
		return true;
	});
};

on("person", (id, name, account = accountOf(id)) => {
	emit("chosen");
	if (id === chat.me.id) return at("me").click();
	const portrait = node("div.portrait", {}, avatar(id, name), node("p", {}, person(name)));
	ask("person", "", [portrait, ...(chat.me.isAdmin ? [adminPart(id)] : [])], words("writeTo"), () => {
		dialog.close(); // gives the focus back, and the talk takes it
		show(privately(id, name, account));
	});
});

const row = (...parts) => node("div.row", {}, ...parts);
const choice = (title, values, text) => node("select", { ariaLabel: words(title) }, ...values.map((value) => node("option", { value }, text(value))));

function adminPart(id) {
	const act = (type, values, className = "soft") => button({ className, onclick: () => {
		send({ type, target_id: id, ...values?.() });
		dialog.close();
	} }, words(type));
	const minutes = choice("mute", MUTE_MINUTES, (value) => words("minutes", value));
	const days = choice("ban", BAN_DAYS, (value) => (value ? words("days", value) : words("forGood")));
	const reason = node("input", { placeholder: words("reason"), maxLength: 200 });
	const why = () => (reason.value.trim() ? { reason: reason.value } : {});
	return node("fieldset", {},
		row(minutes, act("mute", () => ({ seconds: minutes.value * 60 })), act("unmute")),
		row(reason, act("kick", why, "soft danger")),
		row(days, act("ban", () => ({ seconds: days.value * DAY_S, ...why() }), "soft danger"), button({ className: "soft", onclick: listBans }, words("bans"))));
}

const listBans = () => send({ type: "get_bans" });

on("bans", (list) => {
	const rows = list.map(({ account, address, until, reason }) => {
		const term = until ? words("until", calendar.format(until * 1000)) : words("forGood");
		const lift = button({ className: "soft", onclick: () => send({ type: "unban", account, address }) && listBans() }, words("unban"));
		return row(node("div.ban", {}, person(account ?? address), node("small", {}, [term, reason].filter(Boolean).join(" · "))), lift);
	});
	ask("bans", words("bans"), rows.length ? rows : [words("noBans")], words("close"), () => true);
});
