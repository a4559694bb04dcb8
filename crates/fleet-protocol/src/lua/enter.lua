-- KEYS[3..5]: h, w, v. ARGV[2..]: deadline, ticket, caller, at_once, room.
local h, w, v = KEYS[3], KEYS[4], KEYS[5]
local ticket, caller, at_once = ARGV[3], ARGV[4], tonumber(ARGV[5])
if now > tonumber(ARGV[2]) then return {now, 'late'} end
pump(h, w, v, at_once)
local waiting = redis.call('ZCARD', w)
local served = tonumber(redis.call('ZSCORE', v, ''))
if not served then
  local first = redis.call('ZRANGE', w, 0, 0, 'WITHSCORES')
  served = first[2] and first[2] - 1 or 0
end
-- Start-time fair queueing: a new caller starts at the tag served, a busy one falls behind.
local own = tonumber(redis.call('ZSCORE', v, caller)) or 0
local tag = math.max(own, served) + 1
if not in_grace and waiting == 0 and redis.call('ZCARD', h) < at_once then
  hold(h, v, ticket, tag)
  return {now, 'go'}
end
if waiting >= tonumber(ARGV[6]) then return {now, 'crowded'} end
redis.call('ZADD', v, tag, caller)
redis.call('ZADD', w, tag, ticket)
touch(w, v)
return {now, 'wait'}
