-- KEYS: t, l, f, r, s. ARGV: deadline, lock name, ms of the lock, ms between forced logins or 0.
if now > tonumber(ARGV[1]) then return {now, 'late'} end
local token = redis.call('GET', KEYS[1]) or ''
local opens, lock, verdict = tonumber(get(KEYS[4]) or 0), get(KEYS[2]), get(KEYS[5])
if opens > now then return {now, 'throttled', token, opens - now} end
if verdict then return {now, 'rejected', token, verdict} end
local forced = tonumber(ARGV[4])
-- During a forced login, others wait for its result. A later end is from before the clock was set
-- back, too.
local permitted = tonumber(redis.call('GET', KEYS[3]) or '')
if permitted and permitted <= now + forced and forced > 0 and not lock then
  return {now, 'recent', token, math.max(0, permitted - now)}
end
if lock then return {now, 'held', token} end
set(KEYS[2], ARGV[2], ARGV[3])
if forced > 0 then redis.call('SET', KEYS[3], now + forced, 'PX', forced) end
return {now, 'mine', token}
