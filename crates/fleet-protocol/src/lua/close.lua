-- KEYS[1]: g. ARGV: place, closed until, ms until then, replica, the longest wait in ms.
local place, limit = ARGV[1], now + ARGV[5]
local opens = math.min(tonumber(ARGV[2]), now + ARGV[3], limit)
local known = tonumber(redis.call('ZSCORE', KEYS[1], place)) or 0
if known > limit then known = 0 end
if opens <= now or opens <= known then return {now, 'closed'} end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], opens, place)
if redis.call('ZCARD', KEYS[1]) > 4096 then
  redis.call('ZREM', KEYS[1], redis.call('ZRANGE', KEYS[1], 0, 0)[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local channel = string.sub(KEYS[1], 1, -2) .. 'all'
redis.call('PUBLISH', channel, 'gate ' .. place .. ' ' .. (opens - now) .. ' ' .. ARGV[4])
return {now, 'closed'}
