// What is asked for in a window of its own: to sign in, a name, an image, and what to do with somebody.

import * as conversations from "./conversations.js";
import * as session from "./session.js";
import { at, avatar, element, icon, person } from "./element.js";
import { listen } from "./signal.js";
import { sendImage } from "./composer.js";
import { words } from "./words.js";

const dialog = at("dialog");
const NAME_CHARACTERS_MAX = 20;
const MUTE_SECONDS = { minutes5: 300, hour: 3_600, day: 86_400 };

let purpose = "";

/** Opens a form; `accept(values)` says whether it is done. */
function ask(name, title, parts, submitWords, accept) {
  purpose = name;
  const close = element("button", { type: "button", className: "icon close", ariaLabel: words("close"), onclick: () => dialog.close() }, icon("close"));
  const error = element("p", { className: "error", role: "alert" });
  const form = element("form", {},
    element("header", {}, element("h2", { id: "dialog-title" }, title), close),
    ...parts, error, element("button", { className: "primary", autofocus: !parts.some((part) => part.querySelector("[autofocus]")) }, submitWords));
  form.onsubmit = (event) => {
    event.preventDefault();
    error.textContent = "";
    if (accept(Object.fromEntries(new FormData(form)))) dialog.close();
  };
  open(form);
}

function open(content) {
  dialog.replaceChildren(content);
  if (!dialog.open) dialog.showModal();
}

function field(name, label, properties) {
  return element("label", {}, element("span", {}, label), element("input", { name, ...properties }));
}

function say(name, text) {
  if (purpose === name && dialog.open) dialog.querySelector(".error").textContent = text;
}

// A click beside the window is one on the dialog itself.
dialog.onclick = ({ target }) => {
  if (target === dialog) dialog.close();
};
dialog.onclose = () => (purpose = "");

function signIn(error) {
  const parts = [
    element("p", { className: "hint" }, words("signInHint")),
    field("username", words("username"), { autocomplete: "username", required: true, autofocus: true, spellcheck: false }),
    field("password", words("password"), { type: "password", autocomplete: "current-password", required: true }),
  ];
  ask("sign-in", words("signIn"), parts, words("signIn"), ({ username, password }) => {
    session.signIn(username, password);
    return false; // until the server has agreed
  });
  say("sign-in", error);
}

listen("sign-in", signIn);
listen("me", () => purpose === "sign-in" && session.me.isSignedIn && dialog.close());

function askName() {
  const { name, isSignedIn } = session.me;
  const parts = [field("name", words("nameHint"), { value: name, autocomplete: "nickname", autofocus: true, spellcheck: false })];
  if (!isSignedIn) {
    parts.push(element("button", { type: "button", className: "quiet", onclick: () => signIn("") }, words("signIn")));
  }
  ask("name", words("profile"), parts, words("save"), ({ name: wanted }) => {
    const length = [...wanted.trim()].length;
    if (wanted.trim() === name) return true;
    if (length > 0 && length <= NAME_CHARACTERS_MAX) session.rename(wanted);
    else say("name", words("nameHint"));
    return false; // until the server has agreed
  });
}

listen("me", () => purpose === "name" && dialog.close());
listen("name-refused", (text) => say("name", text));
at("me").onclick = askName;

at("add-image").onclick = () => {
  const url = field("url", words("imageUrl"), { type: "url", placeholder: "https://", pattern: "https?://.+", required: true, maxLength: 2048, autofocus: true });
  ask("image", words("image"), [url], words("send"), ({ url }) => {
    sendImage(url.trim());
    return true;
  });
};

/** Somebody, and what we can do with them. */
export function openPerson(id, name) {
  if (id === session.me.id) return askName();
  const heading = element("div", { className: "portrait" }, avatar(id, name), element("p", {}, person(name)), element("small", {}, `ID ${id}`));
  const isAdmin = session.me.isAdmin;
  const parts = isAdmin ? [heading, ...adminParts(id)] : [heading];
  ask("person", "", parts, words("writeTo"), () => {
    dialog.close(); // gives the focus back, and the conversation takes it
    conversations.show(conversations.privately(id, name));
    return true;
  });
}

function adminParts(id) {
  const act = (label, type, extra, className) => {
    const done = () => {
      session.command(type, id, extra());
      dialog.close();
    };
    return element("button", { type: "button", className, onclick: done }, label);
  };
  const seconds = element("select", { name: "seconds", ariaLabel: words("muteFor") },
    ...Object.entries(MUTE_SECONDS).map(([name, value]) => element("option", { value }, words(name))));
  const reason = element("input", { name: "reason", placeholder: words("reason"), ariaLabel: words("reason"), maxLength: 200 });
  const given = () => (reason.value.trim() ? { reason: reason.value.trim() } : {});
  return [element("fieldset", {}, element("legend", {}, words("admin")),
    element("div", { className: "row" }, seconds, act(words("mute"), "mute", () => ({ seconds: Number(seconds.value) }), "")),
    act(words("unmute"), "unmute", () => ({}), ""),
    element("div", { className: "row" }, reason, act(words("kick"), "kick", given, "danger")))];
}
