-- wrk: each request asks for the next of N hosts, far from the one before. All are made before the run.
local requests, count, at = {}, 1, 0

function init(args)
  count = tonumber(args[1])
  for i = 0, count - 1 do
    requests[i] = wrk.format("GET", "/1k", { Host = "r" .. i .. ".test" })
  end
end

function request()
  at = (at + 7919) % count
  return requests[at]
end
