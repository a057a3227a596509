// The list of members. Ten thousand may be in it; the page has only those that can be seen.

import * as roster from "./roster.js";
import * as session from "./session.js";
import { at, avatar, element, oncePerFrame, person } from "./element.js";
import { count, words } from "./words.js";
import { listen } from "./signal.js";

const ROW_PX = 44; // of style.css, too
const AROUND = 6; // rows above and below the visible ones

const box = at("members");
const rows = at("members-rows");
const search = at("search");
let shown = [];
let active = null; // the id of the member that the keyboard is at
let openPerson = () => {};

/** `open(id, name)` is called when a member is chosen. */
export function onMember(open) {
  openPerson = open;
}

const paint = oncePerFrame(() => {
  shown = roster.matching(search.value);
  rows.style.height = `${shown.length * ROW_PX}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - AROUND);
  const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW_PX) + AROUND);
  rows.replaceChildren(...shown.slice(first, last).map((member, index) => row(member, first + index)));
  const hasActive = shown.slice(first, last).some(({ id }) => id === active);
  if (hasActive) box.setAttribute("aria-activedescendant", `member-${active}`);
  else box.removeAttribute("aria-activedescendant");
  if (last === shown.length && shown.length && !search.value && box.scrollTop > 0) roster.want();
  at("members-count").textContent = count(roster.online);
  at("members-note").textContent = note();
});

function note() {
  if (roster.isFetching) return words("loading");
  if (search.value.trim()) return shown.length ? words("found", shown.length) : words("nobody");
  const unnamed = roster.online - shown.length;
  return unnamed > 0 ? words("more", unnamed) : "";
}

function row({ id, name }, index) {
  const isMe = id === session.me.id;
  const label = element("span", { className: "label" }, person(name), ...(isMe ? [element("small", {}, words("you"))] : []));
  const made = element("div", { id: `member-${id}`, role: "option", className: "member", dataset: { id } }, avatar(id, name), label);
  made.ariaSelected = String(id === active);
  made.setAttribute("aria-posinset", index + 1);
  made.setAttribute("aria-setsize", shown.length);
  made.style.top = `${index * ROW_PX}px`;
  return made;
}

function choose(id) {
  active = id;
  const member = shown.find((member) => member.id === id);
  if (member) openPerson(member.id, member.name);
}

rows.onclick = ({ target }) => {
  const chosen = target.closest(".member");
  if (chosen) choose(Number(chosen.dataset.id));
};

const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

box.onkeydown = (event) => {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    return choose(active);
  }
  const step = STEPS[event.key];
  if (!step || !shown.length) return;
  event.preventDefault();
  const from = shown.findIndex(({ id }) => id === active);
  const to = Math.max(0, Math.min(shown.length - 1, from + step));
  active = shown[to].id;
  const top = to * ROW_PX;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_PX - box.clientHeight;
  paint();
};

search.oninput = () => {
  box.scrollTop = 0;
  roster.want();
  paint();
};
search.onkeydown = (event) => {
  if (event.key !== "ArrowDown") return;
  event.preventDefault();
  box.focus();
};

box.onfocus = () => {
  active ??= shown[0]?.id ?? null;
  paint();
};
box.onscroll = paint;
new ResizeObserver(paint).observe(box);
listen("roster", paint);
listen("me", paint);
