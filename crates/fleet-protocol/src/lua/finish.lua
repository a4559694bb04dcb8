-- Ends a login. KEYS: l, the key to set, one to delete if any. ARGV: lock name, identity (empty:
-- no replica is notified), ms, value. Without a value, the key is set to the end of the wait and
-- the time; without ms, it is deleted.
local holder = redis.call('GET', KEYS[1])
-- Without any lock, data was lost during the login: its result counts.
if holder and string.match(holder, '^%S+') ~= ARGV[1] then return {now, 'overtaken'} end
redis.call('DEL', KEYS[1])
if ARGV[3] then redis.call('SET', KEYS[2], ARGV[4] or now + ARGV[3] .. ' ' .. now, 'PX', ARGV[3])
else redis.call('DEL', KEYS[2]) end
if KEYS[3] then redis.call('DEL', KEYS[3]) end
if ARGV[2] == '' then return {now, 'done'} end
redis.call('PUBLISH', string.match(KEYS[1], '^(.-)l:%x+$') .. 'all', 'token ' .. ARGV[2])
return {now, 'done'}
