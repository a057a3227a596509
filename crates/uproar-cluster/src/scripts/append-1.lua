#!lua
-- Appends a batch of proposals of one node to the log of a partition, as one entry.
--
-- Redis undoes nothing when a script fails half-way. So there are three parts:
--   1. read and decide: whatever is wrong is found here;
--   2. write the entry, with an answer for each proposal: from now on the batch is in the log;
--   3. write what is derived from the log. A room where that fails is noted as damaged. Nothing about it is decided
--      until a node has written it again.
--
-- What Redis holds beside the log is a function of the log. So a batch that Redis has lost is appended again by the
-- same script, and leads to the same.
--
-- KEYS: log (a stream), meta, nodes, rooms, recovery (hashes), marks (a list), damaged, requests, requests:before
--       (hashes), left (a list), bans, mutes (hashes); then for each room its history (a list) and its roster (a hash).
-- ARGV: node, incarnation, number of the batch, format, settings, messages that a history keeps, bytes that the log
--       keeps, for how many milliseconds a user that has left is kept; the recovery's id, or ''; to append an entry
--       again its number, time and answers, or ''; the proposals as nodes read them, and their payloads; the number of
--       rooms, and their names; then for each proposal its kind, its room (from 1, or ''), the number of the entry that
--       opened the room, and seven fields, which `decide` below names.
--
-- Returns {number of the entry, 1 if the batch is in the log already, the number of damaged rooms}. An error begins
-- with one of these words:
--   LIFE      the primary has started or changed since the log was recovered: recover it
--   RECOVERY  it is not this one's recovery any more
--   DIFFERS   an entry that is appended again would become another one
--   READONLY  this Redis is no primary
--   FENCED    the node is gone for the others
--   REPLACED  another process has the node's name
--   BEGIN     the node's name belongs to another process than the one that was to be replaced
--   FORMAT    the log is in a newer format than the node reads, or the batch in a newer one than a live node reads; the
--             one that is to be read, or may be written, is named
--   BATCH     not the batch that follows; the last one of this node is named
--   SETTINGS  the log was begun with these settings, and they differ

local LOG, META, NODES, ROOMS, RECOVERY = unpack(KEYS, 1, 5)
local MARKS, DAMAGED, REQUESTS, REQUESTS_BEFORE = unpack(KEYS, 6, 9)
local LEFT, TERMS = KEYS[10], { ban = KEYS[11], mute = KEYS[12] }
local FIXED_KEYS, KEYS_A_ROOM = 12, 2
local FIXED_ARGS, ARGS_A_PROPOSAL = 15, 10

-- Values that are passed to one command: Lua's stack has room for some 8,000.
local VALUES_MAX = 1000
-- The parts of the log that are trimmed at a time.
local PARTS = 64
-- By how much ids go on higher with each change of the epoch, so that no lost one is given again.
local RAISE = 65536
-- The numbers that an entry has for the terms that it sets: more than a batch has proposals.
local TERM_NUMBERS = 1024
-- Terms that are looked at with each change, whether they have ended.
local SWEPT = 16
-- How long a request is known at least, in milliseconds, and how many are known at most, in each of two hashes.
local KNOWN_MS, KNOWN_MAX = 300000, 500000
-- Of how many it is known that they have left, and how many are forgotten at a time.
local LEFT_MAX, LEFT_FORGOTTEN = 65536, 1000

local call, pcall = redis.call, redis.pcall
local find, match, sub = string.find, string.match, string.sub

-- A whole number below 2^53, which tostring would round.
local function text(number)
  return string.format('%.0f', number)
end

local node, incarnation, batch, log_format = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local settings, history_max, log_bytes = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local left_ms = tonumber(ARGV[8])
local recovery, its_number, its_ms, its_answers = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local proposals, payloads, room_count = ARGV[13], ARGV[14], tonumber(ARGV[15])
local first_argument = FIXED_ARGS + room_count + 1
local begins = ARGV[first_argument] == 'begin'

-- 1. Read and decide.

local meta = call('HMGET', META, 'life', 'last', 'tag', 'time', 'total', 'settings', 'marked', 'turned', 'epoch',
  'raised', 'numbers', 'format')
local replication = call('INFO', 'replication')
if not find(replication, 'role:master', 1, true) then
  return redis.error_reply('READONLY this Redis is no primary')
elseif recovery ~= '' then
  if call('HGET', RECOVERY, 'id') ~= recovery then
    return redis.error_reply('RECOVERY is over')
  end
elseif meta[1] ~= match(replication, 'master_replid:(%x+)') then
  return redis.error_reply('LIFE ' .. (meta[1] or 'none'))
end
local last, last_tag, total = tonumber(meta[2] or 0), meta[3] or '', tonumber(meta[5] or 0)
if begins and meta[6] and meta[6] ~= settings then
  return redis.error_reply('SETTINGS ' .. meta[6])
end

-- The newest format that the node of the batch reads.
local reads = begins and ARGV[first_argument + 4]
-- The entry with which a recovery changes the epoch is no batch of a node.
local is_of_node = batch > 0
if is_of_node then
  local known = call('HGET', NODES, node)
  local _, _, known_incarnation, known_batch, known_entry, known_reads =
    find(known or '', '^(%x+) (%d+) (%d+) (%d+)$')
  reads = reads or known_reads
  if known_incarnation == incarnation then
    if tonumber(known_batch) == batch then
      return { tonumber(known_entry), 1, call('HLEN', DAMAGED) }
    elseif tonumber(known_batch) ~= batch - 1 then
      return redis.error_reply('BATCH ' .. known_batch)
    end
  elseif not begins then
    return redis.error_reply(known and 'REPLACED by another process' or 'FENCED by the others')
  elseif known and recovery == '' and known_incarnation ~= ARGV[first_argument + 3] then
    return redis.error_reply('BEGIN of another process came first')
  end
elseif recovery == '' then
  return redis.error_reply('RECOVERY is over')
elseif meta[9] == ARGV[first_argument + 3] then
  return { last, 1, call('HLEN', DAMAGED) }
end
local written = tonumber(meta[12] or 0)
if recovery == '' and begins and tonumber(reads) < written then
  return redis.error_reply('FORMAT ' .. text(written))
elseif recovery == '' and tonumber(log_format) > written then
  -- From now on the log is written in a newer format, if all can read it.
  local lowest = tonumber(reads)
  for _, value in ipairs(call('HVALS', NODES)) do
    lowest = math.min(lowest, tonumber(match(value, '%d+$')))
  end
  if tonumber(log_format) > lowest then
    return redis.error_reply('FORMAT ' .. text(lowest))
  end
end
if its_number and its_number ~= last + 1 then
  return redis.error_reply('DIFFERS in its number')
end

local function clock_ms()
  local clock = call('TIME')
  return tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
end

-- The time of the entry, never earlier than that of the one before.
local now_ms = its_ms or math.max(clock_ms(), tonumber(meta[4] or 0))
local number = last + 1

-- The state of each room of the batch, as it is after the proposals that were decided so far.
local rooms = {}
-- Changes of the epoch up to now.
local raised = tonumber(meta[10] or 0)
local states, damaged = {}, {}
local damaged_count = call('HLEN', DAMAGED)
if room_count > 0 then
  states = call('HMGET', ROOMS, unpack(ARGV, FIXED_ARGS + 1, FIXED_ARGS + room_count))
  if damaged_count > 0 then
    damaged = call('HMGET', DAMAGED, unpack(ARGV, FIXED_ARGS + 1, FIXED_ARGS + room_count))
  end
end
for index = 1, room_count do
  local key = FIXED_KEYS + (index - 1) * KEYS_A_ROOM
  local room = { name = ARGV[FIXED_ARGS + index], history = KEYS[key + 1], roster = KEYS[key + 2] }
  local opened, last_id, its_raised = match(states[index] or '', '^(%d+) (%d+) (%d+)$')
  room.opened, room.last = opened, tonumber(last_id or 0) + RAISE * (raised - tonumber(its_raised or raised))
  room.is_damaged = damaged[index]
  -- By user: what the roster has now, or false. Only what this batch has looked at or changed.
  room.members, room.changed, room.joined, room.left = {}, {}, 0, 0
  room.appended, room.deleted = {}, {}
  rooms[index] = room
end

local function member(room, user)
  local value = room.members[user]
  if value == nil then
    value = pcall('HGET', room.roster, user)
    if type(value) == 'table' then
      room.is_damaged = true
      value = false
    end
    room.members[user] = value
  end
  return value
end

local function set_member(room, user, value)
  room.members[user] = value
  room.changed[user] = true
end

-- The visit by which a user is a member.
local function visit_of(room, user)
  local value = member(room, user)
  return value and tonumber(match(value, '^%d+'))
end

-- A kept message, and its place: in this batch, or in the history.
local function find_message(room, id)
  local before = room.last - #room.appended
  if id > before then
    return room.appended[id - before], id - before, true
  end
  local length = pcall('LLEN', room.history)
  if type(length) == 'table' then
    room.is_damaged = true
    return false
  end
  -- Ids grow by one, but for changes of the epoch. So mostly the first look finds it.
  local low, high = 0, length - 1
  local place = math.min(math.max(length - (before - id) - 1, low), high)
  while low <= high do
    local message = call('LINDEX', room.history, place)
    local its_id = tonumber(match(message, '^%d+'))
    if not its_id then
      room.is_damaged = true
      return false
    elseif its_id == id then
      return message, place, false
    elseif its_id < id then
      low = place + 1
    else
      high = place - 1
    end
    place = math.floor((low + high) / 2)
  end
  return false
end

local epoch
-- The next block of user ids.
local numbers, has_numbers = tonumber(meta[11] or 0), false
local requests, request_count = {}, 0
local nodes_changed, nodes_gone = {}, {}
local left = {}
local answers = {}
local decide = {}
-- Where a member is. Readers skip those whose node is gone.
local here = ' ' .. node .. ' ' .. incarnation .. ' '

-- incarnation, format: a node begins that reads up to this format, and replaces this one of its name.
function decide.begin()
  return 'ok'
end

-- What changes nothing that is kept here.
function decide.pass()
  return 'ok'
end

-- From now on the ids of messages are others: the log's new epoch.
function decide.epoch(_, value)
  -- The first epoch is that of a new log, which has lost nothing. Later ones begin at the time, so that two of which
  -- each has forgotten the other do not give out the same.
  if raised > 0 then
    numbers, has_numbers = math.max(numbers, now_ms), true
  end
  epoch, raised = value, raised + 1
  for _, room in ipairs(rooms) do
    room.last = room.last + RAISE
  end
  return 'ok'
end

-- A block of user ids.
function decide.numbers()
  numbers, has_numbers = numbers + 1, true
  return 'numbers ' .. text(numbers - 1)
end

-- Fence a node that has been silent: its name, incarnation and last batch, as they were seen.
function decide.gone(_, name, its_incarnation, its_batch)
  local value = nodes_changed[name]
  if value == nil then
    value = call('HGET', NODES, name)
  end
  -- One that Redis does not know cannot append any more. Nodes that have seen it are to hear that it is gone.
  if not value then
    return 'ok'
  end
  local _, _, now_incarnation, now_batch = find(value, '^(%x+) (%d+) ')
  if now_incarnation ~= its_incarnation or now_batch ~= its_batch then
    return 'alive'
  end
  nodes_changed[name] = false
  nodes_gone[#nodes_gone + 1] = name
  return 'ok'
end

-- The node of the batch ends in order. This is its last batch.
function decide.ends()
  nodes_changed[node] = false
  nodes_gone[#nodes_gone + 1] = node
  return 'ok'
end

function decide.open(room)
  if not room.opened then
    room.opened, room.last, room.is_cleared = text(number), 0, true
  end
  return 'opened ' .. room.opened
end

-- Forget a room without members.
function decide.forget(room)
  local length = pcall('HLEN', room.roster)
  if type(length) == 'table' then
    room.is_damaged = true
    return 'damaged'
  elseif length + room.joined - room.left > 0 then
    return 'members'
  end
  room.opened, room.is_cleared, room.appended, room.deleted = nil, true, {}, {}
  return 'ok'
end

-- user, visit, from, to: the place of the member in the payloads.
function decide.join(room, user, visit, from, to)
  local present = visit_of(room, user)
  if present and present >= tonumber(visit) then
    return 'late'
  end
  if not present then
    room.joined = room.joined + 1
  end
  set_member(room, user, visit .. here .. sub(payloads, tonumber(from), tonumber(to)))
  return 'ok'
end

function decide.leave(room, user, visit)
  if visit_of(room, user) ~= tonumber(visit) then
    return 'late'
  end
  room.left = room.left + 1
  left[#left + 1] = user .. ' ' .. text(now_ms) .. ' ' .. #room.name .. ':' .. room.name .. member(room, user)
  set_member(room, user, false)
  return 'ok'
end

-- A member's new name, account or role; fields as for a join.
function decide.rename(room, user, visit, from, to)
  if visit_of(room, user) ~= tonumber(visit) then
    return 'late'
  end
  set_member(room, user, visit .. here .. sub(payloads, tonumber(from), tonumber(to)))
  return 'ok'
end

-- Hashes of a wrong type have no requests, and are removed.
local broken_requests = {}
local function kept_request(hash, key)
  local value = pcall('HGET', hash, key)
  if type(value) == 'table' then
    broken_requests[hash] = true
    return false
  end
  return value
end

-- What became of an earlier request with this key.
local function answer_before(key, content)
  local value = requests[key] or kept_request(REQUESTS, key) or kept_request(REQUESTS_BEFORE, key)
  if not value then
    return nil
  end
  local _, _, its_content, id = find(value, '^(%x+) (%d+)$')
  return its_content == content and 'repeated ' .. id or 'other'
end

-- user, visit ('' without membership), from, to (of the message), account, key, content: of a request that may be
-- repeated.
function decide.message(room, user, visit, from, to, account, key, content)
  if key ~= '' then
    local answer = answer_before(key, content)
    if answer then
      return answer
    end
  end
  if visit ~= '' and visit_of(room, user) ~= tonumber(visit) then
    return 'late'
  end
  room.last = room.last + 1
  local id = text(room.last)
  room.appended[#room.appended + 1] =
    id .. ' ' .. text(now_ms) .. ' ' .. user .. ' ' .. #account .. ':' .. account .. sub(payloads, tonumber(from), tonumber(to))
  if key ~= '' then
    requests[key] = content .. ' ' .. id
    request_count = request_count + 1
  end
  return 'sent ' .. id
end

-- id, user, account ('' without one), 'admin' or '': a deletion.
function decide.delete(room, id, user, account, role)
  local message, place, is_new = find_message(room, tonumber(id))
  local _, header_end, author, length = find(message or '', '^%d+ %d+ (%d+) (%d+):')
  if not author then
    return 'unknown'
  end
  local its_account = sub(message, header_end + 1, header_end + tonumber(length))
  local is_own = author == user or account ~= '' and its_account == account
  if not is_own and role ~= 'admin' then
    return 'denied'
  end
  if is_new then
    room.appended[place] = id
  else
    room.deleted[#room.deleted + 1] = { place, id }
  end
  return 'ok'
end

-- In their order: a kind, a subject, and what it has from now on, or false.
local terms = {}

-- changes: of each its kind, the lengths of subject and value, its last second, subject and value. One without a value
-- is removed.
function decide.terms(_, changes)
  local number_of_term = text(number * TERM_NUMBERS + #answers)
  local first = 1
  while first <= #changes do
    local _, last, kind, subject_length, value_length, ends =
      find(changes, '^(%a+) (%d+) (%d+) (%d+):', first)
    local subject_end = last + tonumber(subject_length)
    first = subject_end + tonumber(value_length) + 1
    local value = subject_end + 1 < first and sub(changes, subject_end + 1, first - 1)
    terms[#terms + 1] = {
      kind, sub(changes, last + 1, subject_end), value and number_of_term .. ' ' .. ends .. ' ' .. value,
    }
  end
  return 'ok'
end

local needs_room = { open = true, forget = true, join = true, leave = true, rename = true, message = true, delete = true }

for first = first_argument, #ARGV, ARGS_A_PROPOSAL do
  local kind, index, opened = ARGV[first], tonumber(ARGV[first + 1]), ARGV[first + 2]
  local answer
  local room = needs_room[kind] and rooms[index]
  if room and not room.is_damaged and kind ~= 'open' and room.opened ~= opened then
    answer = 'gone'
  elseif not room or not room.is_damaged then
    answer = decide[kind](room, unpack(ARGV, first + 3, first + ARGS_A_PROPOSAL - 1))
  end
  if room and room.is_damaged then
    answer = 'damaged'
  end
  answers[#answers + 1] = answer
end

-- 2. Write the entry, and where the log ends.

local tag = node .. ' ' .. incarnation .. ' ' .. text(batch)
local answer_text = table.concat(answers, ',')
if its_number and answer_text ~= its_answers then
  return redis.error_reply('DIFFERS in its answers')
end
-- Some 150 bytes for what is beside them.
total = total + #proposals + #payloads + #answer_text + 150
call('XADD', LOG, text(number) .. '-0', 'prev', last_tag, 'tag', tag, 'time', text(now_ms), 'total', text(total),
  'format', log_format, 'proposals', proposals, 'payloads', payloads, 'answers', answer_text)
local ended = { 'last', text(number), 'tag', tag, 'time', text(now_ms), 'total', text(total) }
if begins and not meta[6] then
  ended[#ended + 1] = 'settings'
  ended[#ended + 1] = settings
end
if epoch then
  for _, value in ipairs({ 'epoch', epoch, 'raised', text(raised) }) do
    ended[#ended + 1] = value
  end
end
if tonumber(log_format) > written then
  ended[#ended + 1] = 'format'
  ended[#ended + 1] = log_format
end
if has_numbers then
  ended[#ended + 1] = 'numbers'
  ended[#ended + 1] = text(numbers)
end
call('HSET', META, unpack(ended))
if is_of_node and nodes_changed[node] ~= false then
  call('HSET', NODES, node, incarnation .. ' ' .. text(batch) .. ' ' .. text(number) .. ' ' .. reads)
end

-- 3. Write what is derived from the log. From here on nothing ends the script.

local failed

-- A command of which a failure is noted, with any number of values behind its fixed arguments.
local function write(command, key, values)
  for first = 1, #values, VALUES_MAX do
    local result = pcall(command, key, unpack(values, first, math.min(first + VALUES_MAX - 1, #values)))
    failed = failed or type(result) == 'table' and result.err ~= nil
  end
end

-- The number that a command answers; 0 where it fails.
local function count(...)
  local result = pcall(...)
  return type(result) == 'number' and result or 0
end

write('HDEL', NODES, nodes_gone)
if recovery ~= '' then
  write('HSET', RECOVERY, { 'progress', text(clock_ms()) })
end

if total - tonumber(meta[7] or 0) >= log_bytes / PARTS then
  write('HSET', META, { 'marked', text(total) })
  if count('RPUSH', MARKS, text(number)) > PARTS then
    pcall('LPOP', MARKS)
    pcall('XTRIM', LOG, 'MINID', '~', pcall('LINDEX', MARKS, 0), 'LIMIT', 0)
  end
end

-- Who has left may come back for a while, to a node that begins only then.
if #left > 0 and left_ms > 0 then
  for first = 1, #left, VALUES_MAX do
    local result = pcall('RPUSH', LEFT, unpack(left, first, math.min(first + VALUES_MAX - 1, #left)))
    if type(result) == 'table' then
      -- A value of a wrong type has nobody, and is removed.
      pcall('UNLINK', LEFT)
    end
  end
  pcall('LTRIM', LEFT, -LEFT_MAX, -1)
end
local function has_expired(value)
  return type(value) == 'string' and tonumber(match(value, '^%d+ (%d+)') or 0) + left_ms < now_ms
end
if has_expired(pcall('LINDEX', LEFT, 0)) then
  local forgotten = 0
  for _, value in ipairs(pcall('LRANGE', LEFT, 0, LEFT_FORGOTTEN - 1)) do
    if not has_expired(value) then
      break
    end
    forgotten = forgotten + 1
  end
  pcall('LTRIM', LEFT, forgotten, -1)
end

for hash in pairs(broken_requests) do
  write('UNLINK', hash, { hash })
end
if request_count > 0 then
  local turned = tonumber(meta[8] or 0)
  local kept = count('HLEN', REQUESTS)
  if now_ms - turned >= KNOWN_MS or kept + request_count > KNOWN_MAX then
    if now_ms - turned < KNOWN_MS then
      pcall('HINCRBY', META, 'early', count('HLEN', REQUESTS_BEFORE))
    end
    pcall('UNLINK', REQUESTS_BEFORE)
    if kept > 0 then
      pcall('RENAME', REQUESTS, REQUESTS_BEFORE)
    end
    write('HSET', META, { 'turned', text(now_ms) })
  end
  local values = {}
  for key, value in pairs(requests) do
    values[#values + 1] = key
    values[#values + 1] = value
  end
  write('HSET', REQUESTS, values)
end

for _, term in ipairs(terms) do
  local kind, subject, value = unpack(term)
  local hash = TERMS[kind]
  if type(pcall('HLEN', hash)) == 'table' then
    -- Of a wrong type: it has no terms.
    pcall('UNLINK', hash)
  end
  write(value and 'HSET' or 'HDEL', hash, { subject, value or nil })
  -- Some that have ended go, more than come.
  local swept = 'swept:' .. kind
  local scanned = pcall('HSCAN', hash, pcall('HGET', META, swept) or '0', 'COUNT', SWEPT)
  if not scanned.err then
    local ended_terms = {}
    for index = 1, #scanned[2], 2 do
      local ends = tonumber(match(scanned[2][index + 1], '^%d+ (%d+) '))
      if ends and ends > 0 and ends < math.floor(now_ms / 1000) then
        ended_terms[#ended_terms + 1] = scanned[2][index]
      end
    end
    write('HDEL', hash, ended_terms)
    write('HSET', META, { swept, scanned[1] })
  end
end

local open, forgotten = {}, {}
for _, room in ipairs(rooms) do
  failed = room.is_damaged
  if room.is_cleared then
    write('UNLINK', room.history, { room.roster })
  end
  for _, deleted in ipairs(room.deleted) do
    write('LSET', room.history, deleted)
  end
  if history_max > 0 and #room.appended > 0 then
    write('RPUSH', room.history, room.appended)
    write('LTRIM', room.history, { -history_max, -1 })
  end
  local set, removed = {}, {}
  for user in pairs(room.changed) do
    local value = room.members[user]
    if value then
      set[#set + 1] = user
      set[#set + 1] = value
    else
      removed[#removed + 1] = user
    end
  end
  write('HSET', room.roster, set)
  write('HDEL', room.roster, removed)
  if room.opened and (room.is_cleared or #room.appended > 0) then
    open[#open + 1] = room.name
    open[#open + 1] = room.opened .. ' ' .. text(room.last) .. ' ' .. text(raised)
  elseif not room.opened and room.is_cleared then
    forgotten[#forgotten + 1] = room.name
  end
  if failed and count('HSETNX', DAMAGED, room.name, text(number)) == 1 then
    damaged_count = damaged_count + 1
  end
end
write('HSET', ROOMS, open)
write('HDEL', ROOMS, forgotten)

return { number, 0, damaged_count }
