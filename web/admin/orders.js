// What an admin can order. Each order is confirmed, with a reason where it has one.

import { button, node } from "./elements.js";
import { order, path } from "./api.js";
import { ask, choice, field, say } from "./dialogs.js";
import { name, several } from "./words.js";

const DAY_S = 86_400;
const MUTES = [[300, "5 minutes"], [3600, "1 hour"], [DAY_S, "1 day"], [7 * DAY_S, "7 days"]];
const BANS = [[DAY_S, "1 day"], [7 * DAY_S, "7 days"], [30 * DAY_S, "30 days"], [0, "for good"]];

const reason = () => field("Reason (the client is told)", { name: "reason", maxLength: 200 });
const term = (options) => choice("For how long", "seconds", options);

const reached = ({ connections }) => `${several(connections, "connection")} reached`;

/** What is typed, as the API takes it. */
function body({ seconds, ...texts }) {
	const given = Object.entries(texts).map(([field, text]) => [field, text.trim()]).filter(([, text]) => text);
	return { ...Object.fromEntries(given), ...(seconds ? { seconds: Number(seconds) } : {}) };
}

/** A button that asks for what an order needs, and sends it. */
function offer(names, whom, after, verb, label, { fields, ...details }) {
	const act = async (values, once) => {
		const answer = await order("POST", path([...names, verb]), body(values), once);
		say(`${label}: ${reached(answer)}.`);
		after();
	};
	const open = () => ask({ title: [`${label} `, whom(), "?"], verb: label, act, ...details, fields: fields?.() });
	return button({ className: details.danger ? "soft danger" : "soft", onclick: open }, label);
}

/** Buttons for orders about a connection. `after` is called behind each of them. */
export function connectionOrders(id, after) {
	const one = (...order) => offer(["connections", id], () => `connection ${id}`, after, ...order);
	return node("div.orders", {},
		one("disconnect", "Disconnect", { danger: true, text: "It may connect again.", fields: () => [reason()] }),
		one("mute", "Mute", { text: "What it says is refused meanwhile.", fields: () => [term(MUTES)] }),
		one("ban", "Ban", { danger: true, text: "Its account is banned, or else its address.", fields: () => [term(BANS), reason()] }));
}

/** The same for an account. */
export function accountOrders(account, after) {
	const one = (...order) => offer(["users", account], () => name(account), after, ...order);
	return node("div.orders", {},
		one("message", "Message", { text: "Its chat and hub connections get a private message.", fields: () => [field("Text", { name: "content", required: true }), field("From", { name: "from_name", placeholder: "System", maxLength: 20 })] }),
		one("move", "Move", { text: "Its chat connections go to another room, whatever its rights.", fields: () => [field("To room", { name: "to", required: true }), field("Only from room", { name: "from", placeholder: "every room" })] }),
		one("disconnect", "Disconnect", { danger: true, text: "It may connect again.", fields: () => [reason()] }),
		one("mute", "Mute", { text: "What it says is refused meanwhile.", fields: () => [term(MUTES)] }),
		one("unmute", "Unmute", { text: "It may speak again." }),
		one("ban", "Ban", { danger: true, text: "Its connections are closed, and it is not let in.", fields: () => [term(BANS), reason()] }),
		one("unban", "Lift ban", { text: "It may connect again." }));
}

/** A button that removes something for good. `after` gets the button. */
export function removal({ label, title, text, names, done, after }) {
	const act = async (_, once) => {
		await order("DELETE", path(names), null, once);
		say(done);
		after(made);
	};
	const made = button({ className: "soft danger", onclick: () => ask({ title, text, verb: label, danger: true, act }) }, label);
	return made;
}
