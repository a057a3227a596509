// How what is known tells what is shown that it has changed. Names: "status", "me", "rooms", "roster",
// "typing", "current" (another conversation is shown), "conversations" (their list or their marks),
// "entry" (a conversation and an entry that is new), "changed" (an entry), "cleared" (a conversation),
// "sign-in" (an error, or nothing).

const listeners = new Map();

export function listen(name, listener) {
  listeners.set(name, [...(listeners.get(name) ?? []), listener]);
}

export function emit(name, ...values) {
  for (const listener of listeners.get(name) ?? []) listener(...values);
}
