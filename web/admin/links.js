// Links from one view to another.

import { node } from "./elements.js";
import { name, NONE } from "./words.js";

const link = (view) => (one) => (one ? node("a", { href: `#${view}/${encodeURIComponent(one)}` }, name(one)) : NONE);

export const roomLink = link("rooms");
export const accountLink = link("accounts");
export const connectionLink = link("connections");
