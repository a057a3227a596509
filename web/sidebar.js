// The conversations to choose from, who we are, and where we are.

import * as conversations from "./conversations.js";
import * as roster from "./roster.js";
import * as session from "./session.js";
import { at, avatar, element, icon, isolated, oncePerFrame, person, visible } from "./element.js";
import { count, words } from "./words.js";
import { listen } from "./signal.js";

let chosen = () => {};

/** `done` is called when a conversation has been chosen. */
export function onChosen(done) {
  chosen = done;
}

const showLists = oncePerFrame(() => {
  const { joined, rooms } = session;
  if (joined && !rooms.has(joined.key)) rooms.set(joined.key, roster.online);
  replace(at("rooms"), [...rooms].map(([name, members]) => {
    const conversation = joined?.key === name ? joined : null;
    const size = conversation ? roster.online : members;
    const text = element("span", { className: "label" }, element("bdi", {}, name));
    const badge = unreadOf(conversation) ?? element("span", { className: "size", title: words("online", size) }, count(size));
    return item(conversation, [element("span", { className: "hash", ariaHidden: "true" }, "#"), text, badge], () => session.enterRoom(name));
  }));
  const privates = conversations.privateList();
  at("private-hint").hidden = privates.length > 0;
  replace(at("private"), privates.map((conversation) => {
    const text = element("span", { className: "label" }, person(conversation.name));
    const parts = [avatar(conversation.key, conversation.name), text, unreadOf(conversation)].filter(Boolean);
    const made = item(conversation, parts, () => conversations.show(conversation));
    made.classList.toggle("ended", conversation.isEnded);
    return made;
  }));
  const unread = conversations.unreadTotal();
  at("unread-elsewhere").hidden = conversations.unreadElsewhere() === 0;
  const { current } = conversations;
  document.title = `${unread ? `(${count(unread)}) ` : ""}${current ? `${isolated(current.name)} – ` : ""}Uproar`;
});

function unreadOf(conversation) {
  if (!conversation?.unread) return null;
  return element("span", { className: "unread", ariaLabel: words("unread", conversation.unread), role: "img" }, count(Math.min(conversation.unread, 999)));
}

function item(conversation, parts, choose) {
  const button = element("button", { type: "button" }, ...parts);
  if (conversation && conversation === conversations.current) button.ariaCurrent = "true";
  button.onclick = () => {
    choose();
    chosen();
  };
  return element("li", {}, button);
}

/** Replaces the items of a list; the button that has the keyboard keeps it. */
function replace(list, items) {
  const buttons = () => [...list.querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  list.replaceChildren(...items);
  if (focused >= 0) buttons()[Math.min(focused, items.length - 1)]?.focus();
}

function showMe() {
  const { id, name, isAdmin, isSignedIn } = session.me;
  const about = isAdmin ? words("admin") : isSignedIn ? words("signedIn") : words("profile");
  const text = element("span", { className: "label" }, person(name), element("small", {}, about));
  at("me").replaceChildren(avatar(id, name), text, icon("edit"));
  at("me").hidden = !name;
}

function showPlace() {
  const { current } = conversations;
  if (!current) return;
  const { isRoom, isEnded } = current;
  at("title").replaceChildren(isRoom ? element("bdi", {}, current.name) : person(current.name));
  at("title").classList.toggle("is-room", isRoom);
  const isHere = current === session.joined;
  at("subtitle").textContent = isHere ? words("online", roster.online) : isRoom ? "" : words("privateWith");
  const barrier = isEnded ? words("ended", isolated(visible(current.name))) : mutedText();
  at("barrier").textContent = barrier;
  at("barrier").hidden = !barrier;
}

function mutedText() {
  const { mutedUntil } = session.me;
  return mutedUntil ? words("mutedUntil", new Date(mutedUntil).toLocaleTimeString()) : "";
}

function showState() {
  const { name, text } = session.state;
  at("state").dataset.state = name;
  at("state").textContent = text || words(name);
  at("reconnect").hidden = name !== "lost" && name !== "closed";
}

at("reconnect").onclick = session.reconnect;
listen("status", showState);
listen("me", showMe);
for (const name of ["current", "conversations", "rooms", "roster"]) listen(name, showLists);
for (const name of ["current", "conversations", "roster", "me"]) listen(name, showPlace);
