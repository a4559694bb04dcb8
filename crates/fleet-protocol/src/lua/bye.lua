-- KEYS[3..]: h, w, v of each queue. ARGV[2..]: replica; then of each queue: at_once, number of
-- tickets, the tickets.
redis.call('ZREM', reps, ARGV[2])
local at = 3
for key = 3, #KEYS, 3 do
  local h, w, v = KEYS[key], KEYS[key + 1], KEYS[key + 2]
  local at_once, last = tonumber(ARGV[at]), at + 1 + ARGV[at + 1]
  for ticket = at + 2, last do
    redis.call('ZREM', h, ARGV[ticket])
    redis.call('ZREM', w, ARGV[ticket])
  end
  pump(h, w, v, at_once)
  at = last + 1
end
return {now, 'left'}
