-- wrk -s read.lua URL -- TARGET: reads of one target, again and again.
dofile(debug.getinfo(1, "S").source:match("^@?(.*/)") .. "report.lua")
local read

function init(args)
  read = wrk.format("GET", args[1])
end

function request()
  return read
end
