// The members of the room. In a large room the server names some of them; the others are fetched, page by
// page, when somebody looks for them.

import { emit } from "./signal.js";
import { send } from "./connection.js";

const PAGE_MAX = 500; // the most that the server gives at once, by default
const FETCH_AGAIN_MS = 10_000;

const members = new Map(); // id → { id, name, key }
let sorted = null;
let isWanted = false; // the whole list
let isAsked = false; // for a page that has not come yet
let fetchedAt = -Infinity;

/** How many are in the room, named or not. */
export let online = 0;
export let isFetching = false;

export const nameOf = (id) => members.get(id)?.name;
export const has = (id) => members.has(id);

/** The members by name, or those whose name holds `search`. */
export function matching(search) {
  sorted ??= [...members.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id - b.id));
  const key = search.trim().toLowerCase();
  return key ? sorted.filter((member) => member.key.includes(key)) : sorted;
}

export const isWhole = () => members.size >= online;

function set(id, name) {
  members.set(id, { id, name, key: name.toLowerCase() });
}

function changed() {
  sorted = null;
  emit("roster");
}

/** Another room. */
export function reset() {
  members.clear();
  isAsked = isWanted = isFetching = false;
  fetchedAt = -Infinity;
  changed();
}

/** What `users` lists: all of them, as many as the server names, or a page. */
export function list(some, total) {
  if (!isAsked) members.clear();
  for (const { id, name } of some) set(id, name);
  online = total ?? some.length;
  if (isAsked) {
    isAsked = false;
    if (some.length && !isWhole()) ask(some.at(-1).id);
    else isFetching = false;
  }
  changed();
}

/** Asks for all the names, unless they are known or have just been asked for. */
export function want() {
  if (isWhole() || isFetching || performance.now() - fetchedAt < FETCH_AGAIN_MS) return;
  fetchedAt = performance.now();
  isFetching = true;
  ask(0);
  emit("roster");
}

// Pages are by id. Who has left since is neither here nor in the server's list, so those known up to the
// last id of a page are exactly those in front of the next one.
function ask(lastId) {
  let offset = 0;
  for (const id of members.keys()) if (id <= lastId) offset++;
  isAsked = send({ type: "get_users", offset, limit: PAGE_MAX });
  if (!isAsked) isFetching = false;
}

export function joined(id, name, count) {
  set(id, name);
  online = count;
  changed();
}

export function left(id, count) {
  members.delete(id);
  online = count;
  changed();
}

export function renamed(id, name) {
  if (!members.has(id)) return;
  set(id, name);
  changed();
}

/** A summary of who came and went. It may leave some out, so names of those who left can stay for a while. */
export function summed({ users_online, joined, left, renamed, truncated }) {
  for (const { id, name } of joined) set(id, name);
  for (const id of left) members.delete(id);
  for (const { id, name } of renamed) set(id, name);
  online = users_online;
  if (truncated && members.size > online) {
    members.clear();
    want();
  }
  changed();
}
