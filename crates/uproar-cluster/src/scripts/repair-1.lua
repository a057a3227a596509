#!lua
-- Writes a damaged room again, as the node has it that asks for it. Nothing about the room was decided since it was
-- damaged, so a node that has read the log up to that entry knows it whole.
--
-- KEYS: damaged, rooms (hashes), the room's history (a list), its roster (a hash).
-- ARGV: the room's name, the entry by which it was damaged; the entry that opened it, its last message id, and how many
--       times the epoch had changed by then; the number of messages, and them; for each member the user and the member.
--
-- Returns 1, or 0 where the room is whole.

local DAMAGED, ROOMS, HISTORY, ROSTER = unpack(KEYS)
local name, damaged_by, opened, last, raised, message_count = unpack(ARGV, 1, 6)
local FIXED_ARGS = 6
local VALUES_MAX = 1000

local call = redis.call

if call('HGET', DAMAGED, name) ~= damaged_by then
  return 0
end

local function write(command, key, first, end_)
  for from = first, end_, VALUES_MAX do
    call(command, key, unpack(ARGV, from, math.min(from + VALUES_MAX - 1, end_)))
  end
end

local messages_end = FIXED_ARGS + tonumber(message_count)
call('UNLINK', HISTORY, ROSTER)
write('RPUSH', HISTORY, FIXED_ARGS + 1, messages_end)
write('HSET', ROSTER, messages_end + 1, #ARGV)
call('HSET', ROOMS, name, opened .. ' ' .. last .. ' ' .. raised)
call('HDEL', DAMAGED, name)
return 1
