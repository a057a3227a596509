// The chat page. Three parts, from the wire to the screen: the connection (and how it comes back), what
// is known about the room, and what is shown of it. All text from others reaches the page as text.

const LINES_MAX = 400; // of the log; older ones go
const MEMBERS_MAX = 500; // listed by name; the rest is a number
const RETRY_MS = { first: 500, max: 30_000 };
const ROOMS_EVERY_MS = 15_000;
const REFRESH_MEMBERS_EVERY_MS = 10_000;
const RESTART_TOLERANCE_S = 5;
// Errors that answer something other than a message that was sent.
const OTHER_ERRORS = /^(Invalid name|Unknown room|Unknown message)/;

const at = (id) => document.getElementById(id);

// ---- Connection ------------------------------------------------------------------------------------

let socket = null;
let attempts = 0;
let retryTimer = 0;

function connect() {
  clearTimeout(retryTimer);
  at("reconnect").hidden = true;
  showState("connecting", "Connecting…");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/chat`);
  socket.onmessage = (event) => receive(event.data);
  socket.onclose = (event) => disconnected(event);
}

function disconnected({ code, reason }) {
  socket = null;
  at("send").disabled = true;
  outbox.giveUp();
  at("reconnect").hidden = false;
  const why = reason ? ` (${reason})` : "";
  // 1008 is a decision about us; asking again at once would be pestering.
  if (code === 1008) return showState("closed", `Closed by the server${why}`);
  // Everybody loses the connection in the same moment when a server restarts. The jitter keeps them from
  // coming back in the same moment too.
  const ceiling = Math.min(RETRY_MS.max, RETRY_MS.first * 2 ** attempts++);
  const delay = ceiling / 2 + (Math.random() * ceiling) / 2;
  showState("closed", `Disconnected${why}. Trying again in ${Math.ceil(delay / 1000)} s`);
  retryTimer = setTimeout(connect, delay);
}

function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify(message));
  return true;
}

// The server says that a message was sent, not which. So one is under way at a time, and the answer is
// always to that one.
const outbox = {
  waiting: [],
  underWay: null,
  push(message) {
    this.waiting.push(message);
    this.next();
  },
  next() {
    if (!this.underWay && this.waiting.length && send(this.waiting[0])) this.underWay = this.waiting.shift();
  },
  done() {
    const sent = this.underWay;
    this.underWay = null;
    this.next();
    return sent;
  },
  giveUp() {
    const lost = [this.underWay, ...this.waiting].filter(Boolean);
    this.underWay = null;
    this.waiting = [];
    for (const { content } of lost) notice(`Perhaps not sent: ${content}`, "error");
  },
};

// ---- What is known ---------------------------------------------------------------------------------

let me = { id: 0, name: "" };
let ownIds = new Set(); // of this page's earlier connections too
let room = "";
let lastId = 0; // of the messages seen in `room`
let startedAt = 0; // of the server, in Unix seconds: tells a restart from a broken line
let online = 0; // members of `room`
let addressee = null;
let refreshedAt = 0;
let returning = null; // { room, after, isNew, isThere } from a reconnect to the history that fills the gap
const members = new Map(); // id → name
const rooms = new Map(); // name → count

const HANDLERS = {
  welcome({ user_id, user_name, server_stats, room: entered }, { timestamp }) {
    attempts = 0;
    showState("open", "Connected");
    at("send").disabled = false;
    const started = timestamp - server_stats.uptime_seconds;
    const isNew = Math.abs(started - startedAt) > RESTART_TOLERANCE_S;
    if (isNew) ownIds.clear();
    startedAt = started;
    me = { id: user_id, name: user_name };
    ownIds.add(user_id);
    returning = room ? { room, after: isNew ? 0 : lastId, isNew, isThere: false } : null;
    if (returning) send({ type: "resume", room: returning.room, after: returning.after });
    else enter(entered);
    const wanted = stored("name");
    if (wanted && wanted !== user_name) send({ type: "set_name", name: wanted });
    else showName(user_name);
    send({ type: "get_rooms" });
  },

  users(list, { total }) {
    if (returning && !returning.isThere) return;
    members.clear();
    for (const { id, name } of list) members.set(id, name);
    online = total ?? list.length;
    showMembers();
  },

  history(list, { complete }) {
    if (returning && !returning.isThere) return;
    if (complete === false && returning?.after) notice("Some messages in between are no longer kept.");
    returning = null;
    at("log").ariaBusy = "true";
    for (const entry of list) said({ ...entry, from_name: entry.sender });
    flush();
    at("log").ariaBusy = "false";
  },

  room_joined({ room: entered }) {
    if (returning) returning.isThere = true;
    if (returning && !returning.isNew) return notice("Connected again.");
    enter(entered);
    send({ type: "get_rooms" });
  },

  rooms(list) {
    rooms.clear();
    for (const { room, users_online } of list) rooms.set(room, users_online);
    showRooms();
  },

  message: (_, event) => said(event),

  message_sent({ message_id, room: where }, { timestamp }) {
    const sent = outbox.done();
    if (sent && where === room) {
      said({ message_id, from_id: me.id, from_name: me.name, content: sent.content, timestamp });
    }
  },

  private_message: (content, { from_id, from_name, timestamp }) =>
    line({ who: `${from_name} to you`, text: content, timestamp, kind: "private", reply: [from_id, from_name] }),

  private_message_sent(content, { to_id, to_name, timestamp }) {
    outbox.done();
    line({ who: `You to ${to_name}`, text: content, timestamp, kind: "private own", reply: [to_id, to_name] });
  },

  join({ user_id, user_name, users_online }) {
    online = users_online;
    addMember(user_id, user_name);
    notice(`${user_name} came in.`);
    showMembers();
  },

  leave({ user_id, user_name, users_online }) {
    online = users_online;
    members.delete(user_id);
    notice(`${user_name} left.`);
    showMembers();
  },

  user_renamed({ user_id, old_name, new_name }) {
    renameMember(user_id, new_name);
    notice(`${old_name} is now ${new_name}.`);
    showMembers();
  },

  presence(change) {
    if (change.room !== room) return;
    online = change.users_online;
    for (const { id, name } of change.joined) addMember(id, name);
    for (const id of change.left) members.delete(id);
    for (const { id, name } of change.renamed) renameMember(id, name);
    showMembers();
  },

  name_changed({ old_name, new_name }) {
    me.name = new_name;
    store("name", new_name);
    showName(new_name);
    renameMember(me.id, new_name);
    notice(`You are now ${new_name}, no longer ${old_name}.`);
    showMembers();
  },

  error({ message }) {
    notice(message, "error");
    if (message.startsWith("Invalid name")) showName(me.name);
    if (message.startsWith("Unknown room") && returning) {
      // The room that we were in is gone: stay where the server has put us.
      returning = null;
      send({ type: "join_room", room: "general" });
    }
    if (OTHER_ERRORS.test(message)) return;
    const refused = outbox.done();
    if (refused && !at("text").value) at("text").value = refused.content;
  },
};

// Until we are back where we were, these tell of the room in which the server has put us meanwhile, or of
// what the history to come will repeat.
const OF_A_ROOM = new Set(["message", "join", "leave", "user_renamed", "presence"]);

function receive(data) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    return notice(String(data), "error"); // a full server says so in plain text
  }
  if (returning && OF_A_ROOM.has(event.type)) return;
  if (Object.hasOwn(HANDLERS, event.type)) HANDLERS[event.type](event.content, event);
}

function enter(entered) {
  room = entered;
  lastId = 0;
  members.clear();
  clearLog();
  at("room-title").textContent = room;
  document.title = `${room} – Uproar`;
  showRooms();
}

function said({ message_id, from_id, from_name, content, timestamp }) {
  lastId = message_id;
  const kind = ownIds.has(from_id) ? "own" : "";
  line({ who: from_name, timestamp, kind, text: content });
}

function addMember(id, name) {
  if (members.size < MEMBERS_MAX) members.set(id, name);
}

function renameMember(id, name) {
  if (members.has(id)) members.set(id, name);
  if (addressee?.id === id) address(id, name);
}

// ---- What is shown ---------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
let lines = []; // not yet on the page
let frame = 0;
let membersTimer = 0;

// However fast a room talks, the page changes once per frame.
function line(entry) {
  lines.push(entry);
  if (lines.length > LINES_MAX) lines.shift();
  frame ||= requestAnimationFrame(flush);
}

function notice(text, kind = "notice") {
  line({ text, kind });
}

function flush() {
  cancelAnimationFrame(frame);
  frame = 0;
  const log = at("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(...lines.map(lineElement));
  lines = [];
  while (log.childElementCount > LINES_MAX) log.firstElementChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function lineElement({ who, text, timestamp, kind = "", reply }) {
  const item = element("li", { className: kind });
  if (timestamp) {
    const date = new Date(timestamp * 1000);
    item.append(element("time", { dateTime: date.toISOString(), textContent: clock.format(date) }));
  }
  if (who) item.append(element("span", { className: "who", textContent: who }));
  item.append(text);
  if (reply) {
    const button = element("button", { type: "button", className: "reply", textContent: "Reply" });
    button.onclick = () => address(...reply);
    item.append(" ", button);
  }
  return item;
}

// Private messages are in no history, so they stay.
function clearLog() {
  lines = lines.filter(({ kind }) => kind?.startsWith("private"));
  for (const item of at("log").querySelectorAll("li:not(.private)")) item.remove();
}

function showState(state, text) {
  at("state").dataset.state = state;
  at("state").textContent = text;
}

function showName(name) {
  if (document.activeElement !== at("name")) at("name").value = name;
}

function showRooms() {
  if (room) rooms.set(room, online || rooms.get(room) || 0);
  const items = [...rooms].map(([name, count]) => {
    const button = element("button", { type: "button", textContent: `${name} (${count})` });
    button.setAttribute("aria-current", String(name === room));
    button.onclick = () => name !== room && send({ type: "join_room", room: name });
    return inItem(button);
  });
  replace(at("rooms"), items);
}

function showMembers() {
  membersTimer ||= setTimeout(() => {
    membersTimer = 0;
    const items = [...members].map(([id, name]) => {
      const button = element("button", { type: "button", textContent: id === me.id ? `${name} (you)` : name });
      button.title = `Write to ${name} (${id}) in private`;
      button.onclick = () => address(id, name);
      return inItem(button);
    });
    replace(at("members"), items);
    const unlisted = Math.max(0, online - members.size);
    at("members-more").hidden = unlisted === 0;
    at("members-more").textContent = `and ${unlisted} more`;
    at("members-title").textContent = `Here now (${online})`;
    showRooms();
    // Of a crowd that has become smaller we may not know all the names.
    const now = Date.now();
    if (unlisted && online <= MEMBERS_MAX / 2 && now - refreshedAt > REFRESH_MEMBERS_EVERY_MS) {
      refreshedAt = now;
      send({ type: "get_users" });
    }
  }, 200);
}

// Replaces the items of a list; the button that has the keyboard keeps it.
function replace(list, items) {
  const buttons = () => [...list.querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  list.replaceChildren(...items);
  if (focused >= 0) buttons()[Math.min(focused, items.length - 1)]?.focus();
}

function address(id, name) {
  addressee = id === undefined ? null : { id, name };
  at("addressee").hidden = !addressee;
  at("addressee-text").textContent = addressee ? `In private to ${name}` : "";
  at("text").focus();
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function inItem(child) {
  const item = element("li", {});
  item.append(child);
  return item;
}

// Storage may be forbidden; the name is then forgotten, and nothing else.
function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function store(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // See above.
  }
}

// ---- What the user does ----------------------------------------------------------------------------

at("send-form").onsubmit = (event) => {
  event.preventDefault();
  const content = at("text").value;
  if (!content.trim() || !socket) return;
  at("text").value = "";
  if (addressee) outbox.push({ type: "private_message", to_id: addressee.id, content });
  else outbox.push({ type: "message", content });
};

at("name-form").onsubmit = (event) => {
  event.preventDefault();
  send({ type: "set_name", name: at("name").value });
  at("text").focus();
};

at("addressee-clear").onclick = () => address();
at("reconnect").onclick = () => {
  attempts = 0;
  connect();
};
// A phone that wakes up should not wait for the rest of a long delay.
addEventListener("online", () => !socket && !at("reconnect").hidden && connect());
setInterval(() => document.hidden || send({ type: "get_rooms" }), ROOMS_EVERY_MS);

connect();
