// Where one writes: text, emoji and images, each conversation with a draft of its own.

import * as conversations from "./conversations.js";
import * as session from "./session.js";
import { at, element, isolated, visible } from "./element.js";
import { listen } from "./signal.js";
import { submit } from "./outbox.js";
import { typed } from "./courtesies.js";
import { words } from "./words.js";

const form = at("composer");
const text = at("text");
let writingTo = null;

listen("current", () => {
  if (writingTo) writingTo.draft = text.value;
  writingTo = conversations.current;
  text.value = writingTo.draft;
  fit();
  showTarget();
});
listen("conversations", showTarget);

function showTarget() {
  if (!writingTo) return;
  const { isRoom, isEnded, name } = writingTo;
  text.placeholder = words(isRoom ? "writeRoom" : "writePrivate", isolated(visible(name)));
  for (const control of [text, at("send"), at("open-emoji")]) control.disabled = isEnded;
  at("add-image").hidden = !isRoom;
}

/** As high as its text, up to what the style allows. */
function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  form.classList.toggle("filled", text.value.trim() !== "");
}

text.oninput = () => {
  fit();
  typed(text.value.trim() !== "");
};

text.onkeydown = (event) => {
  // While an input method is composing, Enter chooses a word; some browsers say so only by the code 229.
  const isComposing = event.isComposing || event.keyCode === 229;
  if (event.key !== "Enter" || event.shiftKey || isComposing) return;
  event.preventDefault();
  form.requestSubmit();
};

form.onsubmit = (event) => {
  event.preventDefault();
  const content = text.value;
  if (!content.trim() || !writingTo || writingTo.isEnded) return;
  text.value = "";
  fit();
  typed(false);
  if (writingTo.isRoom) submit(writingTo, { type: "message", content }, session.me);
  else submit(writingTo, { type: "private_message", to_id: writingTo.key, content }, session.me);
  text.focus();
};

/** Sends an image to the room. */
export function sendImage(url) {
  if (writingTo?.isRoom) submit(writingTo, { type: "image", url }, session.me);
}

const EMOJI = "😀😃😄😁😆😅😂🤣🙂😉😊😇🥰😍😘😋😜🤪🤗🤔🤨😐🙄😏😌😴🤓😎🥳😕😮😳🥺😢😭😤😡🤯😱😬👍👎👌✌️🤞👏🙌🙏💪👋🤝👀❤️🧡💛💚💙💜💔✨🔥🎉🎂🌟☀️🌈☕🍵🍺🍕🐱🐶🐼🚀✅❌❓💡";
const COLUMNS = 8; // of style.css, too
const picker = at("emoji");

for (const { segment } of new Intl.Segmenter().segment(EMOJI)) {
  picker.append(element("button", { type: "button", textContent: segment, tabIndex: picker.childElementCount ? -1 : 0 }));
}

picker.onclick = ({ target }) => {
  if (target.localName !== "button") return;
  text.setRangeText(target.textContent, text.selectionStart, text.selectionEnd, "end");
  picker.hidePopover();
  text.focus();
  fit();
};

picker.onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS }[event.key];
  if (!step) return;
  event.preventDefault();
  const buttons = [...picker.children];
  buttons[Math.max(0, Math.min(buttons.length - 1, buttons.indexOf(document.activeElement) + step))].focus();
};
picker.ontoggle = ({ newState }) => newState === "open" && picker.firstElementChild.focus();
