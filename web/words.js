// What the page says, in English and in Chinese, by the language of the browser.

const isChinese = /^zh\b/i.test(navigator.language);
export const language = isChinese ? "zh-CN" : "en";

const some = (one, many) => (n) => (n === 1 ? one : many.replace("#", number.format(n)));
const all = (text) => (n) => text.replace("#", number.format(n));
const number = new Intl.NumberFormat(navigator.language);
export const clock = new Intl.DateTimeFormat(navigator.language, { timeStyle: "short" });
export const calendar = new Intl.DateTimeFormat(navigator.language, { dateStyle: "full" });
const names = new Intl.ListFormat(language, { style: "short", type: "conjunction" });

const PAIRS = {
  conversations: ["Conversations", "会话"],
  rooms: ["Rooms", "房间"],
  direct: ["Private", "私聊"],
  directHint: ["Choose a member to talk in private.", "点选一位成员即可私聊。"],
  members: ["Members", "成员"],
  messages: ["Messages", "消息"],
  message: ["Message", "消息"],
  send: ["Send", "发送"],
  emoji: ["Emoji", "表情"],
  image: ["Send an image", "发送图片"],
  close: ["Close", "关闭"],
  cancel: ["Cancel", "取消"],
  search: ["Search members", "搜索成员"],
  you: ["you", "你"],
  online: [some("1 person here", "# people here"), all("# 人在线")],
  found: [some("1 found", "# found"), all("找到 # 人")],
  more: [some("and 1 more", "and # more"), all("还有 # 人")],
  loading: ["Fetching all the names…", "正在获取全部成员…"],
  nobody: ["Nobody by that name", "没有这个名字的成员"],
  unread: [some("1 unread", "# unread"), all("# 条未读")],
  newMessages: [some("1 new message", "# new messages"), all("# 条新消息")],
  toEnd: ["To the newest message", "回到最新消息"],
  newLine: ["New", "新消息"],
  today: ["Today", "今天"],
  yesterday: ["Yesterday", "昨天"],
  writeRoom: ["Message #", "在 # 中发言"],
  writePrivate: ["Message # in private", "给 # 发私信"],
  hello: ["This is the beginning. Say hello!", "这里还没有消息，打个招呼吧！"],
  helloPrivate: ["Only the two of you see what is said here. It is not kept.", "这里的消息只有你们两人能看到，也不会被保存。"],
  privateWith: ["Private conversation", "私聊"],
  nameless: ["(invisible name)", "（不可见的名字）"],

  connecting: ["Connecting…", "正在连接…"],
  open: ["Connected", "已连接"],
  lost: ["Connection lost. Trying again…", "连接已断开，正在重试…"],
  full: ["The server is full. Trying again…", "服务器已满，正在重试…"],
  draining: ["The server is restarting. Trying again…", "服务器正在重启，稍后重试…"],
  closed: ["Closed by the server", "已被服务器断开"],
  reconnect: ["Connect now", "立即连接"],
  back: ["Connected again. Nothing was missed.", "已重新连接，没有遗漏消息。"],
  gap: ["Some messages in between are no longer kept.", "中间的部分消息已不再保留。"],
  anew: ["The server has started anew. What was said before is no longer kept there.", "服务器已重新启动，之前的消息不再保留。"],
  ended: ["The server has started anew. Find # among the members to talk again.", "服务器已重新启动。如需继续私聊，请在成员列表中重新选择 #。"],
  kicked: ["You were removed from the chat: #", "你已被移出聊天：#"],
  mutedUntil: ["You are muted until #.", "你已被禁言至 #。"],
  unmuted: ["You may speak again.", "你可以再次发言了。"],

  sending: ["Sending", "发送中"],
  sent: ["Sent", "已发送"],
  failed: ["Not sent", "未发送"],
  unsure: ["Perhaps not sent: the connection was lost", "可能未发送：连接中断"],
  leftRoom: ["Not sent: you have left the room", "未发送：你已离开该房间"],
  tooMany: ["Too many messages are waiting", "等待发送的消息过多"],
  retry: ["Try again", "重试"],
  readBy: [some("Read by 1", "Read by #"), all("# 人已读")],
  showImage: ["Show image", "显示图片"],
  imageFrom: ["Image from #", "来自 # 的图片"],
  imageHint: ["Its server will see your address.", "图片所在服务器将看到你的网络地址。"],
  imageBad: ["The image cannot be loaded", "图片无法加载"],
  imageUrl: ["Address of the image", "图片网址"],
  came: ["# joined", "# 加入了"],
  left: ["# left", "# 离开了"],
  renamed: ["# is now #", "# 改名为 #"],
  typing: ["# is typing…", "# 正在输入…"],
  typingMany: ["# are typing…", "# 正在输入…"],
  severalTyping: ["Several people are typing…", "多人正在输入…"],

  profile: ["Your name", "你的名字"],
  nameHint: ["1 to 20 characters", "1 到 20 个字符"],
  save: ["Save", "保存"],
  signIn: ["Sign in", "登录"],
  signInHint: ["This server is for people with an account.", "此服务器需要帐号登录。"],
  signedIn: ["Signed in", "已登录"],
  admin: ["Administrator", "管理员"],
  username: ["User name", "用户名"],
  password: ["Password", "密码"],
  wrongPair: ["Wrong user name or password", "用户名或密码错误"],
  writeTo: ["Private message", "发私信"],
  mute: ["Mute", "禁言"],
  muteFor: ["Mute for", "禁言时长"],
  minutes5: ["5 minutes", "5 分钟"],
  hour: ["1 hour", "1 小时"],
  day: ["1 day", "1 天"],
  unmute: ["Unmute", "解除禁言"],
  kick: ["Remove from the chat", "移出聊天"],
  reason: ["Reason (optional)", "原因（可选）"],
};

// What the server says in its own words, where the page has better ones.
const REFUSALS = {
  "Invalid name (1-20 characters required)": "名字须为 1 到 20 个字符",
  "User not found or offline": "用户不存在或已离线",
  "Invalid image URL": "图片网址无效",
  "Permission denied": "没有权限",
  "You are muted": "你已被禁言",
  "Message too large": "消息过长",
  "Too many messages": "发送过于频繁",
  "Authentication failed": "用户名或密码错误",
  "Authentication required": "需要登录",
  "Kicked by admin": "被管理员移出",
};

/** The words of that name; `#` in them becomes `value`, which for some is a count. */
export function words(name, value) {
  const said = PAIRS[name][isChinese ? 1 : 0];
  if (typeof said === "function") return said(value);
  return value === undefined ? said : said.replace("#", () => value);
}

export const refusal = (message) => (isChinese && Object.hasOwn(REFUSALS, message) ? REFUSALS[message] : message);
export const list = (some) => names.format(some);
export const count = (n) => number.format(n);

/** Gives the elements of the page their words. */
export function translate(root) {
  document.documentElement.lang = language;
  for (const item of root.querySelectorAll("[data-text]")) item.textContent = words(item.dataset.text);
  for (const item of root.querySelectorAll("[data-label]")) {
    item.ariaLabel = words(item.dataset.label);
    if (item.localName === "button") item.title = item.ariaLabel;
  }
  for (const item of root.querySelectorAll("[data-placeholder]")) item.placeholder = words(item.dataset.placeholder);
}
