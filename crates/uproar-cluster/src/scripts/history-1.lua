#!lua flags=no-writes
-- Reads messages of rooms, of each from the newest on, until they have so many bytes.
--
-- KEYS: histories (lists).
-- ARGV: bytes; for each history how many of its newest messages were read before.
--
-- Returns for each history a list: 1 if its oldest message is among these, else 0; and the messages, the newest first.
-- There is at least one message in all, if there are any. A history of a wrong type has none.

local PART = 8

local bytes_max = tonumber(ARGV[1])
local bytes = 0
local found = {}
for index, history in ipairs(KEYS) do
  local read = tonumber(ARGV[index + 1])
  local messages = { 0 }
  while messages[1] == 0 and bytes < bytes_max do
    local part = redis.pcall('LRANGE', history, -(read + PART), -(read + 1))
    if part.err then
      part = {}
    end
    local place = #part
    while place > 0 and bytes < bytes_max do
      messages[#messages + 1] = part[place]
      bytes = bytes + #part[place]
      read = read + 1
      place = place - 1
    end
    if place == 0 and #part < PART then
      messages[1] = 1
    end
  end
  found[index] = messages
end
return found
