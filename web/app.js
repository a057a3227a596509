// The chat page, put together: what is known (session, conversations, roster), what is shown of it (sidebar,
// timeline, members, composer, dialogs), and the layout, in which a narrow screen makes drawers of the sides.

import * as session from "./session.js";
import { at } from "./element.js";
import { listen } from "./signal.js";
import { onChosen } from "./sidebar.js";
import { onMember } from "./members.js";
import { onPerson } from "./timeline.js";
import { openPerson } from "./dialogs.js";
import { translate } from "./words.js";

const ROOMS_EVERY_MS = 15_000;

const drawers = [
  { panel: at("conversations"), opener: document.querySelector(".opens-conversations"), isDrawer: matchMedia("(max-width: 46rem)") },
  { panel: at("members-panel"), opener: document.querySelector(".opens-members"), isDrawer: matchMedia("(max-width: 66rem)") },
];

/** Opens one drawer, or none. What is closed takes part in nothing: neither in tabbing nor in reading. */
function openDrawer(opened) {
  for (const drawer of drawers) {
    const isOpen = drawer === opened && drawer.isDrawer.matches;
    drawer.panel.classList.toggle("open", isOpen);
    drawer.panel.inert = drawer.isDrawer.matches && !isOpen;
    drawer.opener.ariaExpanded = String(isOpen);
  }
  const isCovered = Boolean(opened?.isDrawer.matches);
  document.body.classList.toggle("covered", isCovered);
  document.querySelector("main").inert = isCovered;
  if (isCovered) opened.panel.querySelector("button").focus();
}

function closeDrawers() {
  const opened = drawers.find(({ panel }) => panel.classList.contains("open"));
  openDrawer(null);
  opened?.opener.focus();
}

for (const drawer of drawers) {
  drawer.opener.onclick = () => openDrawer(drawer);
  drawer.panel.querySelector(".close").onclick = closeDrawers;
  drawer.isDrawer.onchange = () => openDrawer(null);
}
document.addEventListener("keydown", ({ key }) => key === "Escape" && closeDrawers());
document.addEventListener("click", ({ target }) => {
  if (target === document.body || target === document.documentElement) closeDrawers();
});

function open(id, name) {
  closeDrawers();
  openPerson(id, name);
}

translate(document);
openDrawer(null);
onChosen(closeDrawers);
onMember(open);
onPerson(open);
listen("current", () => matchMedia("(pointer: coarse)").matches || at("text").focus());
setInterval(session.askRooms, ROOMS_EVERY_MS);
session.begin();
