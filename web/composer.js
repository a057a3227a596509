// Where one writes: text and emoji, each talk with a draft of its own.

import * as talks from "./talks.js";
import * as chat from "./chat.js";
import { at, button } from "./elements.js";
import { apart } from "./node.js";
import { on } from "./signal.js";
import { submit } from "./outbox.js";
import { typed } from "./courtesies.js";
import { words } from "./words.js";

const EMOJI = "😀😄😂🤣🙂😉😊😇🥰😘😋🤔🙄😴😎🥳😮😳🥺😢😭😡👍👎👌✌️👏🙌🙏💪👋🤝👀❤️✨🔥🎉🎂☀️🌈☕🍺🍕🐼🚀✅";

const form = at("composer");
const text = at("text");
const picker = at("emoji");
let writingTo = null;

on("current talks", () => {
	const { current } = talks;
	if (!current) return;
	if (writingTo !== current || text.value !== current.draft) {
		writingTo = current;
		text.value = current.draft;
		fit();
		if (!matchMedia("(pointer: coarse)").matches) text.focus();
	}
	text.placeholder = words(current.isRoom ? "writeRoom" : "writePrivate", apart(current.name));
	text.disabled = at("send").disabled = current.isEnded;
	at("add-image").hidden = !current.isRoom;
});

function fit() {
	text.style.height = "auto";
	text.style.height = `${text.scrollHeight}px`;
	if (writingTo) writingTo.draft = text.value;
	const hasText = text.value.trim() !== "";
	form.classList.toggle("filled", hasText);
	return hasText;
}

text.oninput = () => typed(fit());
text.onkeydown = (event) => {
	// In an input method, Enter chooses a word; some browsers tell only by the code 229.
	if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
	event.preventDefault();
	form.requestSubmit();
};

form.onsubmit = (event) => {
	event.preventDefault();
	const content = text.value;
	if (!fit() || !writingTo || writingTo.isEnded) return;
	text.value = "";
	typed(fit());
	const { isRoom, key, id } = writingTo;
	submit(writingTo, isRoom ? { type: "message", content } : { type: "private_message", [key === id ? "to_id" : "to_account"]: key, content }, chat.me);
	text.focus();
};

for (const { segment } of new Intl.Segmenter().segment(EMOJI)) {
	picker.append(button({ onclick: () => insert(segment) }, segment));
}

function insert(emoji) {
	text.setRangeText(emoji, text.selectionStart, text.selectionEnd, "end");
	picker.hidePopover();
	text.focus();
	fit();
}

