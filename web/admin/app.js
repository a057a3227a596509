// Which view is shown, by the address behind `#`, and the line above all of them.

import { at } from "./elements.js";
import { showAccount, showAccounts, showBans } from "./accounts.js";
import { read } from "./api.js";
import { showConnection, showConnections } from "./connections.js";
import { showLive } from "./live.js";
import { showNodes, state } from "./nodes.js";
import { showRoom, showRooms } from "./rooms.js";
import { several, span } from "./words.js";

const SUMMARY_MS = 5000;
const LISTS = { rooms: showRooms, connections: showConnections, accounts: showAccounts, live: showLive, bans: showBans, nodes: showNodes };
const ONE = { rooms: showRoom, connections: showConnection, accounts: showAccount };
const view = at("view");
let leave = null;

function argument(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

function show() {
	const [place, ...rest] = location.hash.slice(1).split("/");
	const what = argument(rest.join("/"));
	leave?.();
	view.replaceChildren();
	const open = what ? ONE[place] : LISTS[place];
	leave = (open ?? showRooms)(view, what);
	for (const link of document.querySelectorAll("nav a")) {
		const isCurrent = link.hash === `#${open ? place : "rooms"}`;
		link.ariaCurrent = isCurrent ? "page" : null;
		if (isCurrent) link.scrollIntoView({ block: "nearest" });
	}
	scrollTo(0, 0);
}

const summarize = async () => {
	try {
		const stats = await read("stats");
		at("summary").className = "quiet";
		at("summary").textContent = `${state(stats)} for ${span(stats.uptime_seconds)} · ${several(stats.connections, "connection")} · ${several(stats.rooms, "room")}`;
	} catch (failure) {
		at("summary").className = "bad";
		at("summary").textContent = failure.message;
	}
	setTimeout(summarize, SUMMARY_MS);
};

addEventListener("hashchange", () => {
	show();
	view.focus();
});
show();
summarize();
