// What happens now: connections that end, with the reason, and what admins and backends order.

import { node } from "./elements.js";
import { follow, path, read } from "./api.js";
import { ending } from "./connections.js";
import { accountLink, connectionLink } from "./links.js";
import { bar, row, table } from "./table.js";
import { bytes, count, name, NONE, several, span, term, timeOfDay } from "./words.js";

const TITLES = ["At", "What", "Connection", "Who", "#Queue", "Details"];
const ROWS_MAX = 200;
const TOLD_MAX = 10000; // as many ends as the server lists
const USUAL = ["closed", "lost", "shutdown"]; // reasons that are nobody's fault

export function showLive(view) {
	const state = node("p.quiet", { role: "status" });
	const made = table(TITLES, []);
	const body = made.tBodies[0];
	const box = node("input", { type: "checkbox", checked: true });
	const told = new Set(); // the ends that are shown, or were
	const add = (cells, isUsual) => {
		const one = row(TITLES, cells);
		one.dataset.usual = String(isUsual);
		one.hidden = isUsual && box.checked;
		body.prepend(one);
		if (body.rows.length > ROWS_MAX) body.lastChild.remove();
	};
	const show = {
		connection: ({ phase, connection }) => phase === "end" && addEnd(connection),
		moderation: ({ at, action, by, target, seconds, reason }) => {
			const details = [seconds === 0 ? "for good" : seconds && span(seconds), reason].filter(Boolean).join(": ");
			add([timeOfDay(at), term(action), target.connection ? connectionLink(target.connection) : NONE, target.account ? accountLink(target.account) : name(target.name ?? target.address ?? target.room), "", [`by ${by}`, details && `, ${details}`]], false);
		},
		gap: ({ lost }) => add(["", "gap", NONE, NONE, "", lost ? `${several(lost, "event")} missed` : "events missed"], false),
	};
	const addEnd = (one) => {
		if (told.has(one.id)) return;
		told.add(one.id);
		if (told.size > TOLD_MAX) told.delete(told.values().next().value);
		const details = `after ${span(one.ended.at - one.since)}, ${several(one.messages_in, "message")} in, ${count(one.messages_out)} out`;
		add([timeOfDay(one.ended.at), ending(one.ended), connectionLink(one.id), one.account ? accountLink(one.account) : name(one.name), bytes(one.queued_bytes), details], USUAL.includes(one.ended.reason));
	};
	const filter = bar(() => {
		for (const one of body.rows) one.hidden = one.dataset.usual === "true" && box.checked;
	}, node("label", {}, box, "Hide usual ends"));
	filter.lastChild.remove();
	view.append(node("h2", {}, "Live"), state, filter, made);
	// The stream comes first, so that no end falls between it and the list. What it tells waits until the list is shown.
	// It tells of an end that is in the list, too, at any time after.
	let early = [];
	let listing = null;
	const tell = (kind, event) => show[kind]?.(event);
	const list = async () => {
		try {
			const { connections } = await read(path(["connections"], { ended: "true", limit: 50 }));
			connections.reverse().forEach(addEnd);
		} catch (failure) {
			state.textContent = failure.message;
			listing = null;
		}
		early?.forEach((event) => tell(...event));
		early = null;
	};
	return follow(path(["events"], { types: "connection,moderation" }), (...event) => (early ? early.push(event) : tell(...event)), (text, isOpen) => {
		state.textContent = text;
		if (isOpen) listing ??= list();
	});
}
