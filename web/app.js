// The layout, in which a narrow screen makes drawers of the sides, and the beginning of it all.

import * as session from "./session.js";
import { at } from "./element.js";
import { listen } from "./signal.js";
import { translate } from "./words.js";

const main = document.querySelector("main");
const [toConversations, toMembers] = main.querySelectorAll(".opener");
const sides = [
	{ panel: at("conversations"), opener: toConversations, narrow: matchMedia("(max-width: 46rem)") },
	{ panel: at("members-panel"), opener: toMembers, narrow: matchMedia("(max-width: 66rem)") },
];
let opened = null;

/** Opens one drawer, or none. What is closed is out of reach of the keyboard and of screen readers. */
function open(side) {
	const before = opened;
	opened = side;
	for (const { panel, opener, narrow } of sides) {
		const isOpen = panel === opened?.panel;
		panel.classList.toggle("drawer", narrow.matches);
		panel.classList.toggle("open", isOpen);
		panel.inert = narrow.matches && !isOpen;
		opener.ariaExpanded = String(isOpen);
	}
	main.inert = Boolean(opened);
	document.body.classList.toggle("covered", main.inert);
	if (opened) opened.panel.querySelector(".close").focus();
	else before?.opener.focus();
}

for (const side of sides) {
	side.opener.onclick = () => open(side);
	side.panel.querySelector(".close").onclick = () => open(null);
	side.narrow.onchange = () => open(null);
}
document.addEventListener("keydown", ({ key }) => key === "Escape" && opened && open(null));
document.addEventListener("click", ({ target }) => opened && !target.closest(".drawer, .opener") && open(null));
listen("chosen", () => opened && open(null));

translate();
open(null);
session.connect();
