-- KEYS[1]: g. ARGV: the longest wait in ms. Returns the closed gates with the ms left.
local closed = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, now + ARGV[1], 'WITHSCORES')
for index = 2, #closed, 2 do closed[index] = closed[index] - now end
return {now, 'gates', closed}
