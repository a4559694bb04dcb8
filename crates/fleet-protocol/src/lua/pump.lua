local function is_alive(replica)
  local limit = tonumber(redis.call('ZSCORE', reps, replica))
  return limit and limit > now and limit <= now + lease
end
-- Drops holders that expired, or that only a clock set back keeps, then gives free permits to the
-- waiting tickets with the lowest tags.
local function pump(h, w, v, at_once)
  if in_grace then return end
  redis.call('ZREMRANGEBYSCORE', h, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', h, '(' .. (now + lease + silence), '+inf')
  local free = at_once - redis.call('ZCARD', h)
  while free > 0 do
    local first = redis.call('ZRANGE', w, 0, 0, 'WITHSCORES')
    local ticket, tag = first[1], first[2]
    if not ticket then return end
    redis.call('ZREM', w, ticket)
    local replica = string.match(ticket, '/(%x+)/')
    if is_alive(replica) then
      hold(h, v, ticket, tag)
      local limit = string.sub(h, #prefix + 3)
      redis.call('PUBLISH', prefix .. 'r:' .. replica, 'go ' .. limit .. ' ' .. ticket)
      free = free - 1
    end
  end
end
