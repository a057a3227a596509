// The members of the room. Those whom a large room does not name are fetched when somebody looks for them.

import { emit } from "./signal.js";
import { send } from "./connection.js";

const PAGE_MAX = 500; // the most that the server gives at once, by default
const FETCH_AGAIN_MS = 10_000;
const LIST_AGAIN_MS = 1_000;

const members = new Map(); // id → { id, name, key }
let sorted = null;
let fetchedAt = -Infinity;
let listTimer = 0;
let isWhole = false; // all of them are named

/** Members, named or not. */
export let online = 0;
export let isFetching = false;

export const has = (id) => members.has(id);
export const accountOf = (id) => members.get(id)?.account;
export function matching(search) {
	sorted ??= [...members.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id - b.id));
	const key = search.trim().toLowerCase();
	return key ? sorted.filter((member) => member.key.includes(key)) : sorted;
}

/** Who came or has another name, who left, how many are there. `isCut`: not all of these are named. */
export function change(some, left = [], total = online, isCut = false) {
	for (const one of some) members.set(one.id, { ...members.get(one.id), ...one, key: one.name.toLowerCase() });
	for (const id of left) members.delete(id);
	online = total;
	sorted = null;
	if (isCut || members.size > online || (isWhole && members.size < online)) listAgain();
	emit("roster");
}

/** Asks for the list. The pages of a large room do so at different moments. */
function listAgain() {
	listTimer ||= setTimeout(() => {
		listTimer = 0;
		const isBusy = isFetching && performance.now() - fetchedAt < FETCH_AGAIN_MS;
		if (isBusy || document.hidden) listAgain();
		else if (send({ type: "get_users" })) isFetching = false;
	}, LIST_AGAIN_MS + Math.random() * online);
}

export function rename(id, name) {
	if (members.has(id)) change([{ id, name }]);
}

export function reset() {
	members.clear();
	isFetching = false;
	fetchedAt = -Infinity;
}

/** What `users` lists: all of them, as many as the server names, or a page. */
export function list(some, total = some.length) {
	isWhole = false;
	if (!isFetching) members.clear();
	change(some, [], total);
	isWhole = members.size === online;
	if (isFetching) some.length && !isWhole ? ask(some.at(-1).id) : finish();
}

function finish() {
	isFetching = false;
	emit("roster");
}

/** Asks for all the names, but not again and again. */
export function want() {
	if (members.size >= online || performance.now() - fetchedAt < FETCH_AGAIN_MS) return;
	fetchedAt = performance.now();
	isFetching = true;
	ask(0);
}

// Who has left is in neither list: those known up to a page's last id are those before the next.
function ask(lastId) {
	const offset = [...members.keys()].filter((id) => id <= lastId).length;
	if (!send({ type: "get_users", offset, limit: PAGE_MAX })) finish();
}
