-- KEYS[1]: p. ARGV: deadline; interval, burst, longest wait and longest wait of any, in µs.
if now > tonumber(ARGV[1]) then return {now, 'late'} end
local interval, burst = tonumber(ARGV[2]), tonumber(ARGV[3])
local next = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, micros)
-- Further ahead than any request waits: the clock was set back.
if next - micros - burst > tonumber(ARGV[5]) then next = micros end
local wait = math.max(0, next - micros - burst)
if wait > tonumber(ARGV[4]) then return {now, 'never'} end
next = next + interval
redis.call('SET', KEYS[1], next, 'PX', math.ceil((next - micros) / 1000) + 1000)
return {now, 'at', wait}
