-- KEYS: t, l, f, r, s. ARGV: deadline, lock name, ms of the lock, ms between forced logins or 0.
if now > tonumber(ARGV[1]) then return {now, 'late'} end
local token = redis.call('GET', KEYS[1]) or ''
local opens = tonumber(redis.call('GET', KEYS[4]))
if opens and opens > now and opens <= now + 3600000 then
  return {now, 'throttled', token, opens - now}
end
local verdict = redis.call('GET', KEYS[5])
if verdict then return {now, 'rejected', token, verdict} end
local forced = tonumber(ARGV[4])
-- During a forced login, others wait for its result. A later end is from before the clock was set
-- back, and would last as long.
local permitted = tonumber(redis.call('GET', KEYS[3]) or '')
if permitted and permitted <= now + forced and forced > 0 and not redis.call('GET', KEYS[2]) then
  return {now, 'recent', token, math.max(0, permitted - now)}
end
if not redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return {now, 'held', token} end
if forced > 0 then redis.call('SET', KEYS[3], now + forced, 'PX', forced) end
return {now, 'mine', token}
