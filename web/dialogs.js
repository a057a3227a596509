// What is asked for in a window of its own.

import * as chat from "./chat.js";
import { at, avatar, button, icon, kept, node, person } from "./node.js";
import { emit, on } from "./signal.js";
import { accountOf } from "./roster.js";
import { privately, show } from "./talks.js";
import { send } from "./connection.js";
import { submit } from "./outbox.js";
import { words } from "./words.js";

const dialog = at("dialog");
const MUTE_MINUTES = [5, 60, 1440];
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
		else if (!send({ type: "set_name", name: wanted })) return kept("localStorage", "name", wanted);
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
on("name-refused", (text) => (isFor("name") ? say("name", text) : askName(text)));
// The name of an account is fixed.
on("me", () => (at("me").disabled = chat.me.isSignedIn));
on("me", () => (isFor("name") || (isFor("sign-in") && chat.me.isSignedIn)) && dialog.close());
at("me").onclick = () => askName();

at("add-image").onclick = () => {
	const url = field("URL", { name: "url", type: "url", placeholder: "https://", pattern: "https?://.+", maxLength: 2048 });
	ask("image", words("image"), [url], words("send"), ({ url }) => {
		submit(chat.joined, { type: "image", url }, chat.me);
		return true;
	});
};

on("person", (id, name, account = accountOf(id)) => {
	emit("chosen");
	if (id === chat.me.id) return askName();
	const portrait = node("div.portrait", {}, avatar(id, name), node("p", {}, person(name)));
	ask("person", "", [portrait, ...(chat.me.isAdmin ? [adminPart(id)] : [])], words("writeTo"), () => {
		dialog.close(); // gives the focus back, and the talk takes it
		show(privately(id, name, account));
	});
});

function adminPart(id) {
	const act = (type, values, className = "soft") => button({ className, onclick: () => {
		send({ type, target_id: id, ...values?.() });
		dialog.close();
	} }, words(type));
	const minutes = node("select", { ariaLabel: words("mute") }, ...MUTE_MINUTES.map((value) => node("option", { value }, words("minutes", value))));
	const reason = node("input", { placeholder: words("reason"), maxLength: 200 });
	const row = (...parts) => node("div.row", {}, ...parts);
	return node("fieldset", {},
		row(minutes, act("mute", () => ({ seconds: minutes.value * 60 })), act("unmute")),
		row(reason, act("kick", () => (reason.value.trim() ? { reason: reason.value } : {}), "soft danger")));
}
