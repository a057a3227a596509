#!lua
-- Runs commands for the recovery that is under way, and nothing once it is over: who was paused meanwhile does no harm.
--
-- KEYS: recovery; and every key of the commands.
-- ARGV: the recovery's id; then for each command the number of its words, and the words.
--
-- Returns OK. An error begins with RECOVERY when the recovery is over.

local id = ARGV[1]
local call = redis.call

if call('HGET', KEYS[1], 'id') ~= id then
  return redis.error_reply('RECOVERY is over')
end
local clock = call('TIME')
call('HSET', KEYS[1], 'progress', string.format('%.0f', tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)))

local first = 2
while first <= #ARGV do
  local count = tonumber(ARGV[first])
  call(unpack(ARGV, first + 1, first + count))
  first = first + count + 1
end
return redis.status_reply('OK')
