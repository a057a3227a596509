// Elements from values. Whatever others have written enters the page here, and only as text.

import { words } from "./words.js";

export const at = (id) => document.getElementById(id);

/** An element with these properties, and with children that are elements or text. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "dataset") Object.assign(made.dataset, value);
    else if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the symbols in index.html. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  drawing.append(use);
  drawing.setAttribute("aria-hidden", "true");
  return drawing;
}

// Format characters, separators and marks alone show nothing, and neither do these fillers.
const INVISIBLE = /^[\p{C}\p{Z}\p{M}\u115f\u1160\u2800\u3164\uffa0]*$/u;

/** A name that can be seen. */
export const visible = (name) => (INVISIBLE.test(name) ? words("nameless") : name);

/** Somebody's name. The direction of its letters must not turn those around it. */
export const person = (name) => element("bdi", { className: "name", textContent: visible(name) });

/** A name for where elements cannot stand, as in a placeholder: in isolates that it cannot end. */
export const isolated = (name) => `\u2068${name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;

const HUES = 8; // of style.css
const segments = new Intl.Segmenter();

/** A circle with the first letter of a name, in a colour that stays with the id. */
export function avatar(id, name) {
  const [first] = segments.segment(visible(name).trim().replace(/^\(/, ""));
  const hue = Math.abs(Number(id) * 5) % HUES;
  return element("span", { className: "avatar", ariaHidden: "true", dataset: { hue } }, (first?.segment ?? "?").toUpperCase());
}

const LINK = /\bhttps?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]}，。！？；：）】」]/gi;

/** Text in which web addresses can be followed. Nothing but http and https becomes a link. */
export function linked(text) {
  const parts = [];
  let end = 0;
  for (const { 0: address, index } of text.matchAll(LINK)) {
    if (!URL.canParse(address)) continue;
    parts.push(text.slice(end, index), element("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, address));
    end = index + address.length;
  }
  return [...parts, text.slice(end)];
}

/** Calls `paint` once in the next frame, however often it is asked to. */
export function oncePerFrame(paint) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      paint();
    });
  };
}

// Storage may be forbidden; then things are forgotten, and that is all.
export function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // See above.
  }
}
