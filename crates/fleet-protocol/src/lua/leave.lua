-- KEYS[3..5]: h, w, v. ARGV[2..]: ticket, caller, at_once.
local h, w, v = KEYS[3], KEYS[4], KEYS[5]
local ticket, caller = ARGV[2], ARGV[3]
redis.call('ZREM', h, ticket)
local tag = redis.call('ZSCORE', w, ticket)
if tag then
  redis.call('ZREM', w, ticket)
  -- A ticket that was never served costs its caller nothing.
  if redis.call('ZSCORE', v, caller) == tag then redis.call('ZADD', v, tag - 1, caller) end
end
pump(h, w, v, tonumber(ARGV[4]))
return {now, 'left'}
