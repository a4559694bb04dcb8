-- Ends a login. KEYS: l, the key to set, one to delete if any. ARGV: lock name, identity (empty:
-- no replica is notified), ms, value, 'dated' if it is. Without a value, the key is set to the end
-- of the wait, unless there is a longer one; without ms, it is deleted.
local holder = get(KEYS[1])
-- Without any lock, data was lost during the login: its result counts.
if holder and holder ~= ARGV[1] then return {now, 'overtaken'} end
redis.call('DEL', KEYS[1])
if not ARGV[3] then redis.call('DEL', KEYS[2])
elseif not ARGV[4] then
  local opens = math.max(now + ARGV[3], tonumber(get(KEYS[2]) or 0))
  set(KEYS[2], opens, opens - now)
elseif ARGV[5] then set(KEYS[2], ARGV[4], ARGV[3])
else redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3]) end
if KEYS[3] then redis.call('DEL', KEYS[3]) end
if ARGV[2] == '' then return {now, 'done'} end
redis.call('PUBLISH', string.match(KEYS[1], '^(.-)l:%x+$') .. 'all', 'token ' .. ARGV[2])
return {now, 'done'}
