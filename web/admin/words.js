// How values and failures are written.

import { isInvisible, node } from "./elements.js";

const numbers = new Intl.NumberFormat(navigator.language);
const decimals = new Intl.NumberFormat(navigator.language, { maximumSignificantDigits: 3 });
const calendar = new Intl.DateTimeFormat(navigator.language, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(navigator.language, { timeStyle: "medium" });

export const NONE = "–";
const known = (value, write) => (value === null || value === undefined ? NONE : write(value));

export const count = (value) => known(value, (it) => numbers.format(it));
export const several = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
export const milliseconds = (value) => known(value, (it) => `${decimals.format(it)} ms`);
export const share = (value) => known(value, (it) => `${Math.round(it * 100)} %`);
export const moment = (seconds) => known(seconds, (it) => calendar.format(it * 1000));
export const timeOfDay = (seconds) => known(seconds, (it) => clock.format(it * 1000));

export function bytes(value) {
	return known(value, (it) => {
		const unit = ["B", "KiB", "MiB", "GiB", "TiB"][Math.min(4, Math.floor(Math.log2(Math.max(1, it)) / 10))];
		const divisor = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }[unit];
		return `${decimals.format(it / divisor)} ${unit}`;
	});
}

/** A time span: its two largest units. */
export function span(seconds) {
	return known(seconds, (it) => {
		const parts = [[Math.floor(it / 86400), "d"], [Math.floor(it / 3600) % 24, "h"], [Math.floor(it / 60) % 60, "min"], [Math.floor(it) % 60, "s"]];
		const first = parts.findIndex(([amount]) => amount > 0);
		return parts.slice(first < 0 ? 3 : first).slice(0, 2).map(([amount, unit]) => `${amount} ${unit}`).join(" ");
	});
}

export const until = (seconds) => (seconds ? `until ${moment(seconds)}` : "for good");

/** A name that others have given, whose direction must not turn what is around it. */
export const name = (text) => known(text, (it) => node("bdi", {}, isInvisible(it) ? "(invisible name)" : it));

/** Words of the API, such as `slow_consumer`. */
export const term = (text) => known(text, (it) => it.replaceAll("_", " "));

/** A problem of the API (RFC 9457) in a sentence. */
export function told({ title, detail, errors = [] }, status) {
	const fields = errors.map((error) => `${(error.pointer ?? error.parameter ?? "").slice(error.pointer ? 1 : 0)} ${error.detail}`);
	const said = fields.length ? fields.join("; ") : detail;
	return title ? `${title}: ${said}.` : `The server has answered with status ${status}.`;
}
