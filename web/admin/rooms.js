// The rooms, and one of them.

import { node } from "./elements.js";
import { path, read } from "./api.js";
import { historyOf } from "./history.js";
import { removal } from "./orders.js";
import { accountLink, roomLink } from "./links.js";
import { bar, facts, list, refresh, select } from "./table.js";
import { count, milliseconds, moment, name } from "./words.js";

const TITLES = ["Room", "#Members", "#Last message", "#Fan-out p50", "#Fan-out p99", "#Timed messages"];
const MEMBER_TITLES = ["Member", "#Id", "Account", "Since"];

const latency = (fanOut) => [milliseconds(fanOut?.p50_ms), milliseconds(fanOut?.p99_ms), count(fanOut?.messages ?? 0)];

export function showRooms(view) {
	const prefix = node("input", { type: "search", placeholder: "Name begins with…", ariaLabel: "Name begins with", autocomplete: "off" });
	const order = select("Order", [["", "By name"], ["fan_out", "Slowest first"]]);
	const rooms = list({
		titles: TITLES,
		path: (after) => path(["rooms"], { prefix: prefix.value, order: order.value, limit: order.value ? 10 : 100, after }),
		field: "rooms",
		cells: ({ room, users_online, last_message_id, fan_out }) => [roomLink(room), count(users_online), count(last_message_id), ...latency(fan_out)],
		empty: "No room has such a name, or none had a message within the last minute.",
	});
	view.append(node("h2", {}, "Rooms"), bar(rooms.load, prefix, order), rooms.element);
	rooms.load();
}

export function showRoom(view, room) {
	const card = node("div.card");
	const members = list({
		titles: MEMBER_TITLES,
		path: (after) => path(["rooms", room, "members"], { limit: 20, after }),
		field: "members",
		cells: (member) => [name(member.name), String(member.id), accountLink(member.account), moment(member.connected_at)],
		empty: "Nobody is here.",
	});
	const messages = historyOf(room);
	const load = async () => {
		members.load();
		messages.load();
		try {
			const { users_online, last_message_id, epoch, fan_out } = await read(path(["rooms", room]));
			const [p50, p99, messages] = latency(fan_out);
			card.replaceChildren(facts([["Members", count(users_online)], ["Last message", count(last_message_id)], ["Epoch", epoch], ["Fan-out p50", p50], ["Fan-out p99", p99], ["Messages timed in the last minute", messages]]));
		} catch (failure) {
			card.replaceChildren(node("p.error", {}, failure.message));
		}
	};
	const close = removal({
		label: "Delete room",
		title: ["Delete ", name(room), "?"],
		text: "Its messages are removed, and its members go to the first room. Rooms of the configuration cannot be deleted.",
		names: ["rooms", room],
		done: "The room is deleted.",
		after: () => (location.hash = "rooms"),
	});
	view.append(node("h2", {}, "Room ", name(room)), card, node("div.orders", {}, refresh(load), close), node("h3", {}, "Members"), members.element, node("h3", {}, "Messages"), messages.element);
	load();
}
