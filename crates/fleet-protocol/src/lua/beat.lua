-- KEYS[3..4]: keys, g; then h, w, v of each queue. ARGV[2..]: deadline, replica, key fingerprint,
-- run id, whether it joins; then of each queue: at_once, numbers of held and waiting, the tickets.
if now > tonumber(ARGV[2]) then return {now, 'late'} end
local joins, run = ARGV[6] == '1', ARGV[5] ~= '' and ARGV[5] or known_run
if joins and run ~= known_run then start_grace_period() end -- Another server may lack permits.
-- The clock was set back: gates would close once more.
if last - now > lease then redis.call('DEL', KEYS[4]) end
redis.call('HSET', beat, 'last', now, 'run', run)
redis.call('PEXPIRE', beat, 3600000)
local counts = {}
for index, key in ipairs({reps, KEYS[3]}) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', key, '(' .. (now + lease), '+inf')
  redis.call('ZADD', key, now + grace, ARGV[2 + index])
  redis.call('PEXPIRE', key, 3600000)
  counts[index] = redis.call('ZCARD', key)
end
local lost, go, gone, at = {}, {}, {}, 7
for key = 5, #KEYS, 3 do
  local h, w, v, at_once = KEYS[key], KEYS[key + 1], KEYS[key + 2], tonumber(ARGV[at])
  local waiting = at + 3 + ARGV[at + 1]
  for ticket = at + 3, waiting - 1 do
    if joins or in_grace or redis.call('ZSCORE', h, ARGV[ticket])
        or redis.call('ZCOUNT', h, '(' .. now, '+inf') < at_once then
      redis.call('ZADD', h, now + lease, ARGV[ticket])
      redis.call('ZREM', w, ARGV[ticket])
    else lost[#lost + 1] = ARGV[ticket] end
  end
  pump(h, w, v, at_once)
  at = waiting + ARGV[at + 2]
  for ticket = waiting, at - 1 do
    if redis.call('ZSCORE', h, ARGV[ticket]) then
      redis.call('ZADD', h, now + lease, ARGV[ticket])
      go[#go + 1] = ARGV[ticket]
    elseif not redis.call('ZSCORE', w, ARGV[ticket]) then gone[#gone + 1] = ARGV[ticket] end
  end
  touch(h, w, v)
end
return {now, 'beat', counts[1], counts[2], lost, go, gone}
