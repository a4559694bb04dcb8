-- KEYS[1] beat, KEYS[2] reps. ARGV[1]: lease in ms.
local beat, reps, lease = KEYS[1], KEYS[2], tonumber(ARGV[1])
local silence, grace = math.floor(lease * 0.4), math.floor(lease * 0.6)
local prefix = string.sub(beat, 1, -5)
local stored = redis.call('HMGET', beat, 'last', 'grace', 'run')
local last, grace_end = tonumber(stored[1]) or 0, tonumber(stored[2]) or 0
local known_run = stored[3] or ''
local in_grace = grace_end > now and grace_end <= now + grace

local function start_grace_period()
  in_grace = true
  redis.call('HSET', beat, 'grace', now + grace)
  redis.call('PEXPIRE', beat, 3600000)
end
-- No replica was heard: data was lost, or the clock was set.
if now - last > silence or last - now > silence then start_grace_period() end

local function touch(...)
  for _, key in ipairs({...}) do redis.call('PEXPIRE', key, 120000) end
end
-- Gives a permit; `tag` becomes the tag last served, and tags of callers up to it have no effect.
local function hold(h, v, ticket, tag)
  redis.call('ZADD', h, now + lease, ticket)
  redis.call('ZREMRANGEBYSCORE', v, '-inf', tag)
  redis.call('ZADD', v, tag, '')
  touch(h, v)
end
