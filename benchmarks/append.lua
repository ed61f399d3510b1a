-- wrk -s append.lua URL -- PREFIX STREAMS: appends of 100 bytes, to the streams in turn.
local requests, turn = {}, 0

function init(args)
  local headers = { ["content-type"] = "text/plain" }
  for stream = 0, tonumber(args[2]) - 1 do
    requests[#requests + 1] = wrk.format("POST", args[1] .. stream, headers, string.rep("x", 100))
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nresult {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
