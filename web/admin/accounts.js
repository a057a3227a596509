// One account, and the bans.

import { node } from "./elements.js";
import { path, read } from "./api.js";
import { accountLink, connectionLink, roomLink } from "./links.js";
import { accountOrders, removal } from "./orders.js";
import { bar, facts, list, row, table } from "./table.js";
import { count, moment, name, NONE, until } from "./words.js";

const CONNECTION_TITLES = ["Connection", "Name", "Dialect", "Room or topic", "Since"];
const BAN_TITLES = ["Banned", "Until", "Reason", "By", "Since", ""];

/** The field that finds an account. `load` renews the view if it shows the account already. */
function finder(account, load) {
	const input = node("input", { type: "search", value: account, placeholder: "Account", ariaLabel: "Account", autocomplete: "off", spellcheck: false, required: true });
	const form = node("form.bar", { role: "search" }, input, node("button.soft", {}, "Show"));
	form.onsubmit = (event) => {
		event.preventDefault();
		const hash = `#accounts/${encodeURIComponent(input.value.trim())}`;
		if (hash === location.hash) load();
		else location.hash = hash;
	};
	return form;
}

export function showAccounts(view) {
	view.append(node("h2", {}, "Accounts"), finder("", () => {}), node("p.quiet", {}, "An account is that of a user who signs in, or the “sub” of a token. It need not be connected."));
}

export function showAccount(view, account) {
	const card = node("div.card", {}, node("p.quiet", {}, "Loading…"));
	const held = node("section");
	const load = async () => {
		try {
			const { connections, connections_total: total, mute, ban } = await read(path(["users", account]));
			const banned = ban && `${until(ban.until)}${ban.reason ? `: ${ban.reason}` : ""}`;
			const rooms = [...new Set(connections.map(({ room }) => room).filter(Boolean))].flatMap((room) => [" ", roomLink(room)]);
			card.replaceChildren(facts([["Connections", count(total)], ["Rooms", rooms.length ? rooms : NONE], ["Mute", mute ? until(mute.until) : "none"], ["Ban", banned ?? "none"], ["Banned by", name(ban?.by)]]));
			const rows = connections.map((one) => row(CONNECTION_TITLES, [connectionLink(one.id), name(one.name), one.dialect, one.topic ? name(one.topic) : roomLink(one.room), moment(one.since)]));
			const cut = rows.length < total && node("p.quiet", {}, `${count(rows.length)} of ${count(total)} are shown. The list of connections finds all.`);
			held.replaceChildren(rows.length ? table(CONNECTION_TITLES, rows) : node("p.quiet", {}, "It is not connected to this node."), cut || "");
		} catch (failure) {
			card.replaceChildren(node("p.error", {}, failure.message));
		}
	};
	view.append(node("h2", {}, "Account ", name(account)), finder(account, load), card, accountOrders(account, load), node("h3", {}, "Connections"), held);
	load();
}

export function showBans(view) {
	const bans = list({
		titles: BAN_TITLES,
		path: (after) => path(["bans"], { limit: 100, after }),
		field: "bans",
		cells: ({ id, account, address, until: end, reason, by, since }) => [
			account ? accountLink(account) : address,
			end ? moment(end) : "for good",
			reason ?? NONE,
			name(by),
			moment(since),
			removal({ label: "Lift", title: ["Lift the ban of ", name(account ?? address), "?"], text: "It may connect again.", names: ["bans", String(id)], done: "The ban is lifted.", after: () => bans.load() }),
		],
		empty: "Nobody is banned.",
	});
	view.append(node("h2", {}, "Bans"), bar(bans.load), bans.element);
	bans.load();
}
