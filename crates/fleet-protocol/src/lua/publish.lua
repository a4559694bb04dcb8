-- Publishes a token that was obtained without a lock. KEYS: t. ARGV: identity, ms, value, the value
-- that is known, if any: a newer one is not replaced.
if (redis.call('GET', KEYS[1]) or nil) ~= ARGV[4] then return {now, 'overtaken'} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
redis.call('PUBLISH', string.match(KEYS[1], '^(.-)t:%x+$') .. 'all', 'token ' .. ARGV[1])
return {now, 'done'}
