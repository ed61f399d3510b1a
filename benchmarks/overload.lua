-- wrk -s overload.lua URL -- PATH PIPELINED: appends of 100 bytes, so many at a time on each connection.
dofile(debug.getinfo(1, "S").source:match("^@?(.*/)") .. "report.lua")
local appends

function init(args)
  local one = wrk.format("POST", args[1], { ["content-type"] = "text/plain" }, string.rep("x", 100))
  appends = string.rep(one, tonumber(args[2]))
end

function request()
  return appends
end
