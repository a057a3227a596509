// Elements from values. Whatever others have written enters the page here, and only as text.

import { isInvisible, node } from "./elements.js";
import { words } from "./words.js";

export const visible = (name) => (isInvisible(name) ? words("nameless") : name);

/** A name, whose direction must not turn what is around it. */
export const person = (name) => node("bdi.name", { textContent: visible(name) });

/** A name where no element can stand: between isolates that it cannot end. */
export const apart = (name) => `\u2068${visible(name).replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;

export function phrase(name, ...parts) {
	return words(name).split("#").flatMap((piece, index) => [piece, parts[index] ?? ""]);
}

export const people = (names) => node("span", {}, ...names.flatMap((name) => [", ", person(name)]).slice(1));

const segments = new Intl.Segmenter();

export function avatar(id, name) {
	const [{ segment }] = segments.segment(visible(name));
	const made = node("span.avatar", { ariaHidden: "true" }, segment.toUpperCase());
	made.style.setProperty("--hue", (id * 137) % 360);
	return made;
}

const LINK = /\bhttps?:\/\/[^\s<>"]+/gi;
const OPENING = "([{（【「";
const CLOSING = ")]}）】」";
const SILENT = "'.,:;!?，。！？；："; // at its end they are of the sentence

/** Up to where it is an address: brackets are of it when they are opened in it. */
function within(address) {
	const opened = [];
	let end = 0;
	for (const [index, character] of address.split("").entries()) {
		const closed = CLOSING.indexOf(character);
		if (closed >= 0 && opened.pop() !== OPENING[closed]) break;
		if (OPENING.includes(character)) opened.push(character);
		else if (!SILENT.includes(character)) end = index + 1;
	}
	return address.slice(0, end);
}

export function link(href, text = href) {
	return node("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text);
}

export function linked(text) {
	const parts = [];
	let end = 0;
	for (const { 0: match, index } of text.matchAll(LINK)) {
		const address = within(match);
		if (!URL.canParse(address)) continue;
		parts.push(text.slice(end, index), link(address));
		end = index + address.length;
	}
	return [...parts, text.slice(end)];
}

const unkept = {}; // values for a browser that lets us keep nothing

/** The value of a name in `localStorage` or `sessionStorage`, after setting it if one is given. */
export function kept(storage, name, value) {
	try {
		return value ? (window[storage][name] = value) : window[storage][name];
	} catch {
		return value ? (unkept[name] = value) : unkept[name];
	}
}
