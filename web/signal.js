// How what is known tells what is shown that it has changed.

const listeners = {};

/** Calls `listener` whenever one of the names, which spaces separate, is emitted. */
export function on(names, listener) {
	for (const name of names.split(" ")) (listeners[name] ??= []).push(listener);
}

export function emit(name, ...values) {
	for (const listener of listeners[name] ?? []) listener(...values);
}
