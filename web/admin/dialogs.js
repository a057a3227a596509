// What is asked for in a window of its own.

import { at, button, node } from "./elements.js";

const dialog = at("dialog");
let said = 0; // the timer of the last notice

/** Tells for some seconds what was done. */
export function say(text) {
	at("said").textContent = text;
	clearTimeout(said);
	said = setTimeout(() => (at("said").textContent = ""), 6000);
}

export const field = (label, fields) => node("label", {}, label, node("input", { autocomplete: "off", ...fields }));

export function choice(label, name, options) {
	return node("label", {}, label, node("select", { name }, ...options.map(([value, text]) => node("option", { value }, text))));
}

/** A key for an order that must not be carried out twice. */
const unique = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** Opens a form. It closes when `act(values, once)` has succeeded, and shows why it has not. `once` is another key for another order: when something else was typed, or the answer was final. */
export function ask({ title, text = "", fields = [], verb, danger = false, mayCancel = true, act }) {
	const error = node("p.error", { role: "alert" });
	const done = node("button.primary", {}, verb);
	done.classList.toggle("danger", danger);
	const cancel = button({ className: "soft", onclick: () => dialog.close() }, "Cancel");
	const form = node("form", { autocomplete: "off" }, node("h2", { id: "dialog-title" }, ...[title].flat()), text && node("p", {}, ...[text].flat()), ...fields, error, node("div.orders", {}, mayCancel ? cancel : "", done));
	let once = unique();
	let isDone = false;
	const show = () => {
		if (!dialog.open) dialog.showModal();
		(form.querySelector("input, select") ?? cancel).focus();
	};
	form.oninput = () => (once = unique());
	form.onsubmit = async (event) => {
		event.preventDefault();
		error.textContent = "";
		done.disabled = true;
		try {
			await act(Object.fromEntries(new FormData(form)), once);
			isDone = true;
			dialog.close();
		} catch (failure) {
			error.textContent = failure.message;
			if (failure.isFinal) once = unique();
		}
		done.disabled = false;
	};
	dialog.oncancel = (event) => mayCancel || event.preventDefault();
	// Nothing that was typed stays behind. The event comes late: the next form may be open already.
	// A browser lets a second Escape close what may not be cancelled: then it opens again.
	dialog.onclose = () => {
		if (dialog.open) return;
		if (!mayCancel && !isDone && form.isConnected) return show();
		dialog.replaceChildren();
		// The button that opened it may be gone.
		if (document.activeElement === document.body) at("view").focus({ preventScroll: true });
	};
	dialog.replaceChildren(form);
	show();
}
