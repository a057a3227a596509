// The nodes: this one, with its shards.

import { node } from "./elements.js";
import { read } from "./api.js";
import { facts, row, table } from "./table.js";
import { count, share, span } from "./words.js";

const REFRESH_MS = 2000;
const TITLES = ["Shard", "#Connections", "#Busy", "Load"];

export const state = ({ draining }) => (draining ? "shutting down" : "serving");

export function showNodes(view) {
	const card = node("div.card", {}, node("p.quiet", {}, "Loading…"));
	const shards = node("section");
	let timer = 0;
	let isShown = true;
	const load = async () => {
		try {
			const stats = await read("stats");
			if (!isShown) return;
			card.replaceChildren(facts([
				["State", state(stats)],
				["Version", stats.version],
				["Running for", span(stats.uptime_seconds)],
				["Connections", `${count(stats.connections)} of ${count(stats.connections_max)}`],
				["Users", count(stats.users_online)],
				["Rooms", count(stats.rooms)],
			]));
			const rows = (stats.shard_loads ?? []).map(({ shard, connections, busy_share }) => {
				const load = node("meter", { value: busy_share ?? 0, high: 0.8, optimum: 0, ariaLabel: `Busy share of shard ${shard}` });
				return row(TITLES, [String(shard), count(connections), share(busy_share), load]);
			});
			shards.replaceChildren(table(TITLES, rows));
		} catch (failure) {
			card.replaceChildren(node("p.error", {}, failure.message));
		}
		if (isShown) timer = setTimeout(load, REFRESH_MS);
	};
	view.append(node("h2", {}, "This node"), card, node("h3", {}, "Shards"), shards);
	load();
	return () => {
		isShown = false;
		clearTimeout(timer);
	};
}
