-- Ends a login. KEYS: l, the key to set if any, one to delete if any. ARGV: lock name, identity,
-- ms, value; without a value, the key is set to the end of the wait.
local holder = redis.call('GET', KEYS[1])
-- Without any lock, data was lost during the login: its result counts.
if holder and holder ~= ARGV[1] then return {now, 'overtaken'} end
redis.call('DEL', KEYS[1])
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[4] or now + ARGV[3], 'PX', ARGV[3]) end
if KEYS[3] then redis.call('DEL', KEYS[3]) end
redis.call('PUBLISH', string.match(KEYS[1], '^(.-)l:%x+$') .. 'all', 'token ' .. ARGV[2])
return {now, 'done'}
