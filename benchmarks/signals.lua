-- wrk: TelemetryDeck signals of 330 bytes; `-- EVENTS [bare]` says how many a request (1: one object in an array).
-- 64 different requests in turn, so that nothing can be remembered by its body. Prints one line of JSON at the end.
local requests = {}
local turn = 0

local function signal(number)
  local head = '{"appID":"7E4A8C12-5B1F-4E57-9C43-2F6D0C1B9A10","clientUser":"' .. string.rep("787d5b7c06ca0a21", 4)
    .. string.format('%04d', number) .. '","sessionID":"0D3B6E51-0000-4A7E-9B51-' .. string.format('%012d', number)
    .. '","type":"Database.updated","isTestMode":"false","floatValue":3.5,"payload":{"platform":"macOS","note":"'
  local tail = '"}}'
  return head .. string.rep("x", 330 - #head - #tail) .. tail
end

function init(args)
  local events = tonumber(args[1] or "1")
  local path = args[2] or "/v2/"
  for request = 1, 64 do
    local list = {}
    for event = 1, events do
      list[event] = signal(request * 100 + event % 100)
    end
    local body = "[" .. table.concat(list, ",") .. "]"
    requests[request] = wrk.format("POST", path, { ["Content-Type"] = "application/json" }, body)
  end
end

function request()
  turn = turn % 64 + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"bad_status":%d,"broken":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
