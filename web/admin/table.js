// Tables, and lists that come page by page.

import { button, node } from "./elements.js";
import { read } from "./api.js";

/** A title that begins with `#` is of numbers. */
export function row(titles, cells) {
	return node("tr", {}, ...cells.map((cell, index) => {
		const title = titles[index];
		const made = node(title.startsWith("#") ? "td.number" : "td", {}, ...[cell].flat());
		made.dataset.title = title.replace("#", "");
		return made;
	}));
}

export function table(titles, rows) {
	const head = titles.map((title) => node(title.startsWith("#") ? "th.number" : "th", { scope: "col" }, title.replace("#", "")));
	return node("table", {}, node("thead", {}, node("tr", {}, ...head)), node("tbody", {}, ...rows));
}

/** A list of the API. `path(after)` asks for a page, whose `field` has the rows. With `isBackward` they come with the newest last, and are shown with the newest first. */
export function list({ titles, path, field, isBackward = false, cells, empty }) {
	const made = table(titles, []);
	const body = made.tBodies[0];
	const note = node("p.quiet", { role: "status" });
	const more = button({ className: "soft", hidden: true }, isBackward ? "Show older" : "Show more");
	let asked = 0; // only the last answer counts
	const load = async (after) => {
		const own = ++asked;
		note.className = "quiet";
		if (!body.rows.length) note.textContent = "Loading…";
		try {
			const page = await read(path(after));
			if (own !== asked) return;
			if (!after) body.replaceChildren();
			const rows = page[field].map((one) => row(titles, cells(one)));
			body.append(...(isBackward ? rows.reverse() : rows));
			more.hidden = !page.next;
			more.onclick = () => load(page.next);
			note.textContent = body.rows.length ? "" : empty;
		} catch (failure) {
			if (own !== asked) return;
			note.className = "error";
			note.textContent = failure.message;
		}
	};
	return { element: node("section", {}, made, note, more), load: () => load(null) };
}

export const refresh = (load) => button({ className: "soft", onclick: load }, "Refresh");

/** A bar of filters. `onChange` is called when somebody has stopped typing. */
export function bar(onChange, ...parts) {
	const made = node("form.bar", { role: "search" }, ...parts, node("button.soft", {}, "Refresh"));
	let timer = 0;
	made.oninput = () => {
		clearTimeout(timer);
		timer = setTimeout(onChange, 250);
	};
	made.onsubmit = (event) => {
		event.preventDefault();
		onChange();
	};
	return made;
}

export function select(label, options) {
	return node("select", { ariaLabel: label }, ...options.map(([value, text]) => node("option", { value }, text)));
}

/** A list of facts. */
export function facts(pairs) {
	return node("dl", {}, ...pairs.map(([title, value]) => node("div", {}, node("dt", {}, title), node("dd", {}, ...[value].flat()))));
}
