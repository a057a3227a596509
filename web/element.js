// Elements from values. Whatever others have written enters the page here, and only as text.

import { words } from "./words.js";

export const at = (id) => document.getElementById(id);

export function element(tag, properties, ...children) {
	const made = Object.assign(document.createElement(tag), properties);
	made.append(...children);
	return made;
}

export const button = (properties, ...children) => element("button", { type: "button", ...properties }, ...children);
export const label = (...children) => element("span", { className: "label" }, ...children);

export function icon(name) {
	const [drawing, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
	use.setAttribute("href", `#i-${name}`);
	drawing.append(use);
	return drawing;
}

// Format characters, separators and marks alone show nothing, and neither do these fillers.
const INVISIBLE = /^[\p{C}\p{Z}\p{M}\u115f\u1160\u2800\u3164\uffa0]*$/u;

/** A name that can be seen. */
export const visible = (name) => (INVISIBLE.test(name) ? words("nameless") : name);

/** Somebody's name. The direction of its letters must not turn those around it. */
export const person = (name) => element("bdi", { className: "name", textContent: visible(name) });

/** A name for where no element can stand, as in a title: between isolates that it cannot end. */
export const isolated = (name) => `\u2068${visible(name).replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;

export function phrase(name, ...parts) {
	return words(name).split("#").flatMap((piece, index) => (index ? [parts[index - 1], piece] : [piece]));
}

export const people = (names) => element("span", {}, ...names.flatMap((name, index) => (index ? [", ", person(name)] : [person(name)])));

const segments = new Intl.Segmenter();

export function avatar(id, name) {
	const [{ segment }] = segments.segment(visible(name));
	const made = element("span", { className: "avatar", ariaHidden: "true" }, segment.toUpperCase());
	made.style.setProperty("--hue", (id * 137) % 360);
	return made;
}

const LINK = /\bhttps?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]}，。！？；：）】」]/gi;

export function link(href, text = href) {
	return element("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text);
}

/** Text in which addresses on the web can be followed. */
export function linked(text) {
	const parts = [];
	let end = 0;
	for (const { 0: address, index } of text.matchAll(LINK)) {
		if (!URL.canParse(address)) continue;
		parts.push(text.slice(end, index), link(address));
		end = index + address.length;
	}
	return [...parts, text.slice(end)];
}

/** Calls `paint` once in the next frame, however often it is asked to. */
export function oncePerFrame(paint) {
	let frame = 0;
	return () => {
		frame ||= requestAnimationFrame(() => {
			frame = 0;
			paint();
		});
	};
}
