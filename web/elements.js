// Elements from values, for every page. Texts of others enter a page as text alone.

export const at = (id) => document.getElementById(id);

/** An element; behind a dot the tag may have classes. */
export function node(tag, fields, ...children) {
	const [name, className = ""] = tag.split(".");
	const made = Object.assign(document.createElement(name), { className, ...fields });
	made.append(...children);
	return made;
}

export const button = (fields, ...children) => node("button", { type: "button", ...fields }, ...children);
export const label = (...children) => node("span.label", {}, ...children);

export function icon(name) {
	const [drawing, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
	use.setAttribute("href", `#i-${name}`);
	drawing.append(use);
	return drawing;
}

// Those that show nothing: format characters, separators, marks and fillers.
const INVISIBLE = /^[\p{C}\p{Z}\p{M}\u115f\u1160\u2800\u3164\uffa0]*$/u;

export const isInvisible = (text) => INVISIBLE.test(text);

/** `paint`, once in the next frame, however often it is asked for. */
export function perFrame(paint) {
	let frame = 0;
	return () => {
		frame ||= requestAnimationFrame(() => {
			frame = 0;
			paint();
		});
	};
}
