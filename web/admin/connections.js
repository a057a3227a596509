// The connections, and everything about one of them.

import { node } from "./elements.js";
import { path, read } from "./api.js";
import { connectionOrders } from "./orders.js";
import { accountLink, connectionLink, roomLink } from "./links.js";
import { bar, facts, list, select } from "./table.js";
import { bytes, count, milliseconds, moment, name, NONE, several, span, term } from "./words.js";

const REFRESH_MS = 2000;
const TITLES = ["Connection", "Name", "Account", "Room or topic", "#Queue", "#Round trip", "Since", "State"];
const ORDERS = [["queue", "Longest queue first"], ["", "By id"], ["ended", "Ended, newest first"]];

const place = ({ room, topic }) => (topic ? [name(topic), " (topic)"] : roomLink(room));

/** How a connection ended, in words. */
export const ending = (ended) => (ended ? `${term(ended.reason)}${ended.code ? ` (${ended.code})` : ""}` : "open");

export function showConnections(view) {
	const order = select("Order", ORDERS);
	const kind = select("Search by", [["account", "Account"], ["address", "Address"]]);
	const search = node("input", { type: "search", placeholder: "Account or address", ariaLabel: "Account or address", autocomplete: "off" });
	const connections = list({
		titles: TITLES,
		path: (after) => {
			const isEnded = order.value === "ended";
			const query = isEnded ? { ended: "true" } : { order: order.value };
			return path(["connections"], { ...query, [kind.value]: search.value.trim(), limit: 100, after });
		},
		field: "connections",
		cells: (one) => [connectionLink(one.id), name(one.name), accountLink(one.account), place(one), bytes(one.queued_bytes), milliseconds(one.round_trip_ms), moment(one.since), ending(one.ended)],
		empty: "There are no such connections.",
	});
	view.append(node("h2", {}, "Connections"), bar(connections.load, order, kind, search), connections.element);
	connections.load();
}

export function showConnection(view, id) {
	const card = node("div.card", {}, node("p.quiet", {}, "Loading…"));
	const note = node("p.quiet", { role: "status" });
	const given = node("div");
	let timer = 0;
	let isShown = true;
	const load = async () => {
		clearTimeout(timer);
		try {
			const one = await read(path(["connections", id]));
			if (!isShown) return;
			card.replaceChildren(facts(explained(one)));
			note.textContent = one.ended ? `It ended ${moment(one.ended.at)}: ${ending(one.ended)}. The numbers are those of its end.` : "";
			given.hidden = Boolean(one.ended);
			if (one.ended) return;
		} catch (failure) {
			if (!isShown) return;
			card.replaceChildren(node("p.error", {}, failure.message));
		}
		// Also behind a failure, which may pass.
		clearTimeout(timer);
		timer = setTimeout(load, REFRESH_MS);
	};
	given.append(connectionOrders(id, load));
	view.append(node("h2", {}, "Connection ", id), note, card, given);
	load();
	return () => {
		isShown = false;
		clearTimeout(timer);
	};
}

function explained(one) {
	const { limits } = one;
	const now = Date.now() / 1000;
	return [
		["Name", name(one.name)],
		["Account", accountLink(one.account)],
		["User id", one.user_id === null ? NONE : String(one.user_id)],
		["Room or topic", place(one)],
		["Dialect", one.dialect],
		["Address", one.address],
		["Since", `${moment(one.since)} (${span(Math.max(0, (one.ended?.at ?? now) - one.since))})`],
		["Last received", moment(one.last_received)],
		["Queue", `${bytes(one.queued_bytes)} of ${bytes(limits.queue_bytes)}, ${several(one.queued_frames, "frame")}`],
		["Round trip", milliseconds(one.round_trip_ms)],
		["Acknowledged", bytes(one.acknowledged_bytes)],
		["Messages in", count(one.messages_in)],
		["Messages out", count(one.messages_out)],
		["Received", bytes(one.received_bytes)],
		["Sent", bytes(one.sent_bytes)],
		["Longest message", bytes(limits.message_bytes)],
		["Messages a second", limits.messages_per_second === null ? "no limit" : count(limits.messages_per_second)],
	];
}
