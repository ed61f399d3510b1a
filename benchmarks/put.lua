-- wrk -s put.lua URL -- KEY VALUE: puts of one key, in base64, as the JSON gateway of etcd takes them.
local put

function init(args)
  put = wrk.format("POST", "/v3/kv/put", { ["content-type"] = "application/json" },
    string.format('{"key":"%s","value":"%s"}', args[1], args[2]))
end

function request()
  return put
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nresult {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
