// What is asked for in a window of its own: to sign in, a name, an image, and what to do with somebody.

import * as session from "./session.js";
import { at, avatar, button, element, icon, person } from "./element.js";
import { emit, listen } from "./signal.js";
import { privately, show } from "./conversations.js";
import { send } from "./connection.js";
import { submit } from "./outbox.js";
import { words } from "./words.js";

const dialog = at("dialog");
const MUTE_MINUTES = [5, 60, 1440];
const NAME = /^.{1,20}$/su;

/** Opens a form; `accept(values)` says whether it is done. */
function ask(purpose, title, parts, submitWords, accept) {
	const close = button({ className: "icon close", title: words("close"), onclick: () => dialog.close() }, icon("close"));
	const header = element("header", {}, element("h2", { id: "dialog-title" }, title), close);
	const done = element("button", { className: "primary", autofocus: !parts.some((part) => part.querySelector("input")) }, submitWords);
	const form = element("form", {}, header, ...parts, element("p", { className: "error", role: "alert" }), done);
	form.onsubmit = (event) => {
		event.preventDefault();
		say(purpose, "");
		if (accept(Object.fromEntries(new FormData(form)))) dialog.close();
	};
	dialog.dataset.purpose = purpose;
	dialog.replaceChildren(form);
	if (!dialog.open) dialog.showModal();
}

const isFor = (purpose) => dialog.open && dialog.dataset.purpose === purpose;
const say = (purpose, text) => isFor(purpose) && (dialog.querySelector(".error").textContent = text);
const field = (label, properties) => element("label", {}, label, element("input", { required: true, ...properties }));

function signIn(error) {
	const parts = [
		field(words("username"), { name: "username", autocomplete: "username", autofocus: true }),
		field(words("password"), { name: "password", type: "password", autocomplete: "current-password" }),
	];
	// It stays open until the server has agreed.
	ask("sign-in", words("signIn"), parts, words("signIn"), ({ username, password }) => session.signIn(username, password));
	say("sign-in", error);
}

function askName() {
	const { name, isSignedIn } = session.me;
	const parts = [field(words("nameHint"), { name: "name", value: name, autocomplete: "nickname", autofocus: true })];
	if (!isSignedIn) parts.push(button({ className: "soft", onclick: () => signIn("") }, words("signIn")));
	ask("name", words("name"), parts, words("save"), (values) => {
		const wanted = values.name.trim();
		if (!NAME.test(wanted)) say("name", words("nameHint"));
		else if (wanted === name) return true;
		else send({ type: "set_name", name: wanted });
	});
}

listen("sign-in", signIn);
listen("name-refused", (text) => say("name", text));
listen("me", () => (isFor("name") || (isFor("sign-in") && session.me.isSignedIn)) && dialog.close());
at("me").onclick = askName;

at("add-image").onclick = () => {
	const url = field("URL", { name: "url", type: "url", placeholder: "https://", pattern: "https?://.+", maxLength: 2048, autofocus: true });
	ask("image", words("image"), [url], words("send"), ({ url }) => {
		submit(session.joined, { type: "image", url }, session.me);
		return true;
	});
};

listen("person", (id, name) => {
	emit("chosen");
	if (id === session.me.id) return askName();
	const portrait = element("div", { className: "portrait" }, avatar(id, name), element("p", {}, person(name)), element("small", {}, `ID ${id}`));
	ask("person", "", [portrait, ...(session.me.isAdmin ? [adminPart(id)] : [])], words("writeTo"), () => {
		dialog.close(); // gives the focus back, and the conversation takes it
		show(privately(id, name));
	});
});

function adminPart(id) {
	const act = (type, values, className = "soft") => button({ className, onclick: () => {
		send({ type, target_id: id, ...values?.() });
		dialog.close();
	} }, words(type));
	const minutes = element("select", { ariaLabel: words("mute") }, ...MUTE_MINUTES.map((value) => element("option", { value }, words("minutes", value))));
	const reason = element("input", { placeholder: words("reason"), maxLength: 200 });
	const row = (...parts) => element("div", { className: "row" }, ...parts);
	return element("fieldset", {},
		row(minutes, act("mute", () => ({ seconds: minutes.value * 60 })), act("unmute")),
		row(reason, act("kick", () => (reason.value.trim() ? { reason: reason.value } : {}), "soft danger")));
}
