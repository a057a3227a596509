#!lua
-- Takes part in the recovery of a log whose primary has started or changed: begins one, or reports to the one that is
-- under way, and tells how far it is. Nodes call it again and again until the log lives. One of them then acts: it
-- claims the recovery, which gets another id, so that nobody else acts in it.
--
-- KEYS: meta, nodes, recovery (hashes).
-- ARGV: a new id; node, incarnation; how many times the epoch had changed ('' for a node that has not begun and knows
--       nothing), the number and the tag of the last entry that it has; milliseconds after which a recovery without
--       progress is replaced; the id of the recovery that this node claims, or ''.
--
-- Returns {'alive'}, or {id, the primary that it is for, its age in milliseconds, who has claimed it or '', how many
-- times the epoch had changed, number and tag of the last entry that Redis has, the epoch, the nodes that Redis knows,
-- the reports}; the last two as lists of a name and a value each. An error begins with
--   READONLY  this Redis is no primary

local META, NODES, RECOVERY = KEYS[1], KEYS[2], KEYS[3]
local new_id, node, incarnation, raised, number, tag, replaced_ms, claimed_id = unpack(ARGV)
local call = redis.call

local function text(value)
  return string.format('%.0f', value)
end

local replication = call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
  return redis.error_reply('READONLY this Redis is no primary')
end
local life = string.match(replication, 'master_replid:(%x+)')
local meta = call('HMGET', META, 'life', 'raised', 'last', 'tag', 'epoch')
if meta[1] == life then
  return { 'alive' }
end

local clock = call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local state = call('HMGET', RECOVERY, 'id', 'life', 'begun', 'progress', 'actor')
-- A clock that was set back must not keep a recovery for ever.
local is_silent = state[1] and math.abs(now_ms - tonumber(state[4])) > tonumber(replaced_ms)
if state[2] ~= life or is_silent then
  call('DEL', RECOVERY)
  state = { new_id, life, text(now_ms), text(now_ms), false }
  call('HSET', RECOVERY, 'id', new_id, 'life', life, 'begun', text(now_ms), 'progress', text(now_ms))
end
local own = node .. ' ' .. incarnation
if raised ~= '' then
  call('HSET', RECOVERY, 'node ' .. node, table.concat({ incarnation, raised, number, tag }, ' '))
end
-- Who has claimed it before, and has lost its line meanwhile, may claim it again.
if claimed_id == state[1] and (not state[5] or state[5] == own) then
  state[1], state[5] = new_id, own
  call('HSET', RECOVERY, 'id', new_id, 'actor', own, 'progress', text(now_ms))
end

local reports = {}
local all = call('HGETALL', RECOVERY)
for index = 1, #all, 2 do
  local name = string.match(all[index], '^node (.+)$')
  if name then
    reports[#reports + 1] = name
    reports[#reports + 1] = all[index + 1]
  end
end
local age = math.max(now_ms - tonumber(state[3]), 0)
return {
  state[1], life, age, state[5] or '', tonumber(meta[2] or 0), tonumber(meta[3] or 0), meta[4] or '', meta[5] or '',
  call('HGETALL', NODES), reports,
}
