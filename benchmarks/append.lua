-- wrk -s append.lua URL -- PREFIX STREAMS: appends of 100 bytes, to the streams in turn.
dofile(debug.getinfo(1, "S").source:match("^@?(.*/)") .. "report.lua")
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
