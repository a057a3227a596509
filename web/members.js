// The members. Of ten thousand the page has only those that can be seen.

import * as roster from "./roster.js";
import * as chat from "./chat.js";
import { at, label, node, perFrame } from "./elements.js";
import { avatar, person } from "./node.js";
import { count, words } from "./words.js";
import { emit, on } from "./signal.js";

const ROW_PX = 44; // of style.css, too
const AROUND = 6; // rows above and below the visible ones
const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

const box = at("members");
const rows = at("members-rows");
const search = at("search");
let shown = [];
let active = 0; // the row that the keyboard is at

const paint = perFrame(() => {
	shown = roster.matching(search.value);
	active = Math.max(0, Math.min(active, shown.length - 1));
	rows.style.height = `${shown.length * ROW_PX}px`;
	const first = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - AROUND);
	const last = first + Math.ceil(box.clientHeight / ROW_PX) + 2 * AROUND;
	rows.replaceChildren(...shown.slice(first, last).map((member, index) => row(member, first + index)));
	box.setAttribute("aria-activedescendant", `member-${shown[active]?.id}`);
	const isSearching = search.value.trim() !== "";
	if (isSearching || (box.scrollTop && last >= shown.length)) roster.want();
	const unnamed = roster.online - shown.length;
	at("members-count").textContent = count(roster.online);
	const note = isSearching ? words("found", shown.length) : unnamed > 0 ? words("more", unnamed) : "";
	at("members-note").textContent = roster.isFetching ? words("loading") : note;
});

function row({ id, name }, index) {
	const you = id === chat.me.id ? [" ", node("small", {}, words("you"))] : [];
	const option = { role: "option", ariaSelected: String(index === active), ariaPosInSet: index + 1, ariaSetSize: shown.length };
	const made = node("div.member", { id: `member-${id}`, ...option, onclick: () => choose(index) }, avatar(id, name), label(person(name), ...you));
	made.style.top = `${index * ROW_PX}px`;
	return made;
}

function choose(index) {
	active = index;
	if (shown[index]) emit("person", shown[index].id, shown[index].name);
}

box.onkeydown = (event) => {
	const step = STEPS[event.key];
	if (event.key === "Enter") choose(active);
	else if (!step) return;
	else active = Math.max(0, Math.min(shown.length - 1, active + step));
	event.preventDefault();
	const top = active * ROW_PX;
	box.scrollTop = Math.max(top + ROW_PX - box.clientHeight, Math.min(box.scrollTop, top));
	paint();
};

search.oninput = () => {
	box.scrollTop = active = 0;
	paint();
};
search.onkeydown = ({ key }) => {
	if (key === "ArrowDown") box.focus();
};
box.onscroll = paint;
new ResizeObserver(paint).observe(box);
on("roster me", paint);
