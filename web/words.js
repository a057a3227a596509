// What the page says, in English or Chinese.

const isChinese = /^zh\b/i.test(navigator.language);
const numbers = new Intl.NumberFormat(navigator.language);
export const clock = new Intl.DateTimeFormat(navigator.language, { timeStyle: "short" });
export const calendar = new Intl.DateTimeFormat(navigator.language, { dateStyle: "medium", timeStyle: "short" });

/** By the first word of each line, the others. */
function table(text) {
	return new Map(text.trim().split("\n").map((line) => line.split("|")).map(([name, ...said]) => [name, said]));
}

const PAIRS = table(`
talks|Conversations|会话
rooms|Rooms|房间
findRoom|Find or open a room|查找或打开房间
direct|Private|私聊
directHint|Choose a member to talk in private.|点选成员即可私聊。
members|Members|成员
messages|Messages|消息
send|Send|发送
emoji|Emoji|表情
image|Send an image|发送图片
close|Close|关闭
search|Search members|搜索成员
you|you|你
online|# online|# 人在线
found|# found|找到 # 人
more|and # more|还有 # 人
loading|Fetching all the names…|正在获取全部成员…
newMessages|# new messages|# 条新消息
toEnd|To the newest|回到最新
fresh|New|新消息
writeRoom|Message #|在 # 中发言
writePrivate|Message # in private|给 # 发私信
hello|Nothing was said here yet. Say hello!|这里还没有消息，打个招呼吧！
helloPrivate|Only the two of you see this. It is not kept.|只有你们两人能看到，也不会被保存。
nameless|(invisible name)|（不可见的名字）
connecting|Connecting…|正在连接…
open|Connected|已连接
lost|Connection lost. Trying again…|连接已断开，正在重试…
full|The server is full. Trying again…|服务器已满，正在重试…
refused|Refused by the server. Trying again…|服务器拒绝连接，正在重试…
otherOrigin|This server accepts no connections from pages at #. Its operator can start it with “--allow-origin #”, or let the proxy pass “Host” on unchanged.|此服务器不接受来自 # 的页面的连接。管理员可用 “--allow-origin #” 启动服务器，或让代理原样传递 “Host”。
unknownHost|This server does not know the name #. Its operator can start it with “--allow-host #”.|此服务器不认识主机名 #。管理员可用 “--allow-host #” 启动服务器。
closed|Closed by the server: #|已被服务器断开：#
reconnect|Connect now|立即连接
back|Connected again. Nothing was missed.|已重新连接，没有遗漏消息。
gap|Some messages in between are no longer kept.|中间的部分消息已不再保留。
anew|The server started anew, without the messages above.|服务器已重新启动，以上消息不再保留。
ended|The server started anew. Choose # among the members again.|服务器已重新启动，请在成员中重选 #。
kicked|You were removed: #|你已被移出：#
muted|You are muted until #.|你已被禁言至 #。
waiting|Waiting|等待发送
sending|Sending|发送中
sent|Sent|已发送
unsure|Perhaps not sent|可能未发送
tooMany|Too many are waiting|等待发送的消息过多
retry|Try again|重试
read|Read by #|# 人已读
showImage|Show image (its server will see your address)|显示图片（对方服务器将看到你的地址）
imageFrom|Image from #|来自 # 的图片
imageBad|The image cannot be loaded|图片无法加载
came|# joined|# 加入了
left|# left|# 离开了
renamed|# is now #|# 改名为 #
typing|# typing…|# 正在输入…
name|Your name|你的名字
nameHint|1 to 20 characters|1 到 20 个字符
save|Save|保存
signIn|Sign in|登录
admin|Administrator|管理员
username|User name|用户名
password|Password|密码
writeTo|Private message|发私信
mute|Mute|禁言
unmute|Unmute|解除禁言
minutes|# minutes|# 分钟
days|# day(s)|# 天
forGood|For good|永久
until|until #|至 #
ban|Ban|封禁
unban|Lift the ban|解除封禁
bans|Bans|封禁名单
noBans|Nobody is banned.|没有被封禁的人。
banned|You are banned from this server.|你已被此服务器封禁。
kick|Remove|移出
reason|Reason|原因`);

/** What the server says in English. */
const REFUSALS = table(`
Invalid name (1-20 characters required)|名字须为 1 到 20 个字符
User not found or offline|用户不存在或已离线
Invalid image URL|图片网址无效
Permission denied|没有权限
Unknown ban|没有此封禁
Name is reserved|该名字已被保留
Too many rooms|房间过多
session resumed elsewhere|已在另一个窗口中继续
banned|已被封禁
You are muted|你已被禁言
Message too large|消息过长
Too many messages|发送过于频繁
Authentication failed|用户名或密码错误`);

export const count = (n) => numbers.format(n);

/** The words of that name, with `value` in the place of `#`. */
export function words(name, value = "#") {
	return PAIRS.get(name)[Number(isChinese)].replaceAll("#", () => (typeof value === "number" ? count(value) : value));
}

export const refusal = (message) => (isChinese && REFUSALS.get(message)?.[0]) || message;

export function translate() {
	document.documentElement.lang = isChinese ? "zh-CN" : "en";
	for (const item of document.querySelectorAll("[data-text]")) item.textContent = words(item.dataset.text);
	for (const item of document.querySelectorAll("[data-label]")) {
		item.ariaLabel = item[item.localName === "input" ? "placeholder" : "title"] = words(item.dataset.label);
	}
}
