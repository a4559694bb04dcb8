-- KEYS[1]: reps; then h, w of each queue. ARGV[1]: the time for which a heartbeat counts, in ms.
-- Returns replicas with the ms since their heartbeats; of each queue the holders and the number
-- of tickets that wait.
local latest = now + ARGV[1]
local since = '(' .. now
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], since, latest, 'WITHSCORES', 'LIMIT', 0, 1000)
for index = 2, #alive, 2 do alive[index] = latest - alive[index] end
local queues = {}
for key = 2, #KEYS, 2 do
  local holders = redis.call('ZRANGEBYSCORE', KEYS[key], since, '+inf', 'LIMIT', 0, 100)
  queues[#queues + 1] = holders
  queues[#queues + 1] = redis.call('ZCARD', KEYS[key + 1])
end
return {now, 'members', alive, queues}
