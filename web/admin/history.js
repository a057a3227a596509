// What was said in a room.

import { node } from "./elements.js";
import { path } from "./api.js";
import { accountLink } from "./links.js";
import { removal } from "./orders.js";
import { list } from "./table.js";
import { moment, name } from "./words.js";

const TITLES = ["#Id", "At", "From", "Account", "Message", ""];

/** The messages of a room, the newest first. Each can be deleted. */
export function historyOf(room) {
	const deletion = ({ message_id: id, sender }, said) => removal({
		label: "Delete",
		title: `Delete message ${id}?`,
		text: [name(sender), ": ", node("bdi.said", {}, said)],
		names: ["rooms", room, "messages", String(id)],
		done: "The message is deleted.",
		after: (made) => made.closest("tr").remove(),
	});
	return list({
		titles: TITLES,
		path: (before) => path(["rooms", room, "history"], { limit: 50, before }),
		field: "messages",
		isBackward: true,
		cells: (message) => {
			const said = message.type === "image" ? `Image: ${message.content.url}` : message.content;
			return [String(message.message_id), moment(message.timestamp), name(message.sender), accountLink(message.from_account), node("bdi.said", {}, said), deletion(message, said)];
		},
		empty: "No message is kept.",
	});
}
