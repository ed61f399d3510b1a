-- wrk -s batches.lua URL -- PATH MESSAGES: idempotent batches of JSON messages; each thread, of one connection, is a producer.
dofile(debug.getinfo(1, "S").source:match("^@?(.*/)") .. "report.lua")
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("id", threads)
end

function init(args)
  local messages = {}
  for number = 1, tonumber(args[2]) do
    messages[number] = string.format('{"n":%d,"text":"%s"}', number, string.rep("x", 80))
  end
  path, body = args[1], "[" .. table.concat(messages, ",") .. "]"
  seq = id == 1 and -2 or -1  -- wrk looks at one request of the first thread, and sends it to nobody
  run = string.format("%x-%d", os.time(), math.random(1, 1000000000) + id)
end

function request()
  seq = seq + 1
  return wrk.format("POST", path, {
    ["content-type"] = "application/json",
    ["producer-id"] = "p" .. id .. "-" .. run,
    ["producer-epoch"] = "0",
    ["producer-seq"] = tostring(seq),
  }, body)
end
