// Asks the HTTP API. The key is kept here alone: in no storage, no address and no element.

import { at } from "./elements.js";
import { ask, field } from "./dialogs.js";
import { told } from "./words.js";

const ROOT = "api/v1/";
const RETRY_MS = 2000;
const ANSWER_MS = 20000; // the server answers within 10 seconds
const SILENCE_MS = 45000; // a stream says something every 15 seconds
let key = "";
let asking = null; // while the dialog for the key is open

class Failure extends Error {}
/** Nobody knows whether an order was carried out. */
class Silence extends Failure {}

const authorization = (used) => (used ? { authorization: `Bearer ${used}` } : {});

/** Waits for another key than `used`, which the server has refused. */
function needKey(used) {
	if (key !== used) return null;
	asking ??= new Promise((resolve) => {
		const text = used ? "The server does not know this key." : "The key stays in this window's memory and is gone when you close or reload it.";
		const input = field("API key", { name: "key", type: "password", required: true, autofocus: true, spellcheck: false, pattern: "\\s*[!-~]+\\s*", title: "A key has no blanks" });
		ask({ title: "Enter an API key", text, fields: [input], verb: "Open", mayCancel: false, act: (values) => {
			key = values.key.trim();
			asking = null;
			at("forget").hidden = false;
			resolve();
		} });
	});
	return asking;
}

at("forget").onclick = () => location.reload();

/** What is awaited of the server. It has `patience` milliseconds for it; then `stop` ends the request. */
async function heard(awaited, stop, patience = ANSWER_MS) {
	const timer = setTimeout(() => stop.abort(new Silence("The server does not answer.")), patience);
	try {
		return await awaited;
	} catch (error) {
		stop.signal.throwIfAborted();
		throw new Silence(error instanceof SyntaxError ? "Something else than the server has answered." : "The server cannot be reached.");
	} finally {
		clearTimeout(timer);
	}
}

/** Sends a request, with a key if it turns out that one is needed. */
async function send(path, fields, headers, stop) {
	for (;;) {
		const used = key;
		const all = { ...fields, signal: stop.signal, cache: "no-store", headers: { ...headers, ...authorization(used) } };
		const response = await heard(fetch(ROOT + path, all), stop);
		if (response.ok) return response;
		const problem = await heard(response.json(), stop).catch(() => ({}));
		if (response.status === 504) throw new Silence("The server does not know yet what has become of it.");
		if (response.status !== 401) throw Object.assign(new Failure(told(problem, response.status)), { isUnderWay: problem.type?.endsWith("under-way") });
		await needKey(used);
	}
}

/** The answer to a question. Throws an error whose message is for people. */
export const read = async (path) => {
	const stop = new AbortController();
	return heard((await send(path, {}, {}, stop)).json(), stop);
};

/** The answer to an order, which takes effect once however often it is repeated with the key `once`. */
export const order = async (method, path, body, once) => {
	const stop = new AbortController();
	const headers = { "idempotency-key": once, ...(body ? { "content-type": "application/json" } : {}) };
	try {
		const response = await send(path, { method, body: body && JSON.stringify(body) }, headers, stop);
		return await heard(response.json(), stop);
	} catch (failure) {
		if (failure instanceof Silence) failure.message += " Perhaps it was done. Trying again does not do it twice.";
		failure.isFinal = !(failure instanceof Silence || failure.isUnderWay);
		throw failure;
	}
};

/** A path of names, and a query of those values that are there. */
export function path(names, query = {}) {
	const given = Object.entries(query).filter(([, value]) => value);
	return `${names.map(encodeURIComponent).join("/")}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

// An EventSource cannot send a key.
/** Follows a stream of server-sent events, over lost connections, until the returned function is called. */
export function follow(path, onEvent, onState) {
	let last = "";
	let stop = null;
	let isLeft = false;
	const listen = async () => {
		const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
		const response = await send(path, {}, headers, stop);
		onState("Watching. The newest is first.", true);
		const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
		let rest = "";
		for (;;) {
			const { done, value } = await heard(reader.read(), stop, SILENCE_MS);
			if (done) return;
			const blocks = (rest + value).split("\n\n");
			rest = blocks.pop();
			for (const block of blocks) {
				const fields = Object.fromEntries(block.split("\n").map((line) => [line.split(":", 1)[0], line.slice(line.indexOf(":") + 1).trimStart()]));
				last = fields.id ?? last;
				if (fields.data) onEvent(fields.event, JSON.parse(fields.data));
			}
		}
	};
	const keepListening = async () => {
		while (!isLeft) {
			stop = new AbortController();
			onState("Connecting…");
			const failure = await listen().catch((error) => error);
			stop.abort();
			if (isLeft) return;
			onState(failure ? failure.message : "The stream has ended.");
			await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
		}
	};
	keepListening();
	return () => {
		isLeft = true;
		stop.abort();
	};
}
