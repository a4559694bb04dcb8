-- Values with the time at which they were set. One of a later time was set before the clock was set
-- back, and would stay that much longer.
local function get(key)
  local value, since = string.match(redis.call('GET', key) or '', '^(.*) (%d+)$')
  return since and tonumber(since) <= now + lag and value
end
local function set(key, value, ms) redis.call('SET', key, value .. ' ' .. now, 'PX', ms) end
