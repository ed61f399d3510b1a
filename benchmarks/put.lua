-- wrk -s put.lua URL -- KEY VALUE: puts of one key, in base64, as the JSON gateway of etcd takes them.
dofile(debug.getinfo(1, "S").source:match("^@?(.*/)") .. "report.lua")
local put

function init(args)
  put = wrk.format("POST", "/v3/kv/put", { ["content-type"] = "application/json" },
    string.format('{"key":"%s","value":"%s"}', args[1], args[2]))
end

function request()
  return put
end
