--- What a statusline shows, from the server's notifications. Text in, text out: no editor in here.
---
--- `warming 63%` · `warm` · `starting` · `loading 40%` · `prefill 40% · 3 s left` · `decode 61 tok/s` ·
--- `done · 2 hunks` · `failed` · `cancelled` · `demo model`; and once there is a result, what the last one took:
--- `warm · 0.2 s + 61 tok/s` (time to the first text, then decoding).

---@class singlepass.StatusParams the notification `singlepass/status`
---@field job integer?
---@field uri string?
---@field state string
---@field message string
---@field percent integer?
---@field eta_ms number? until the prompt is read
---@field decode_rate number? tokens a second
---@field target string?

---@class singlepass.TimingsParams the notification `singlepass/timings`, as far as it is used here
---@field job integer
---@field title string
---@field outcome "done"|"failed"|"cancelled"
---@field message string
---@field ttft_ms number?
---@field n_applied integer
---@field n_rejected integer
---@field timings { n_decoded: integer, decode_ms: number }?

---@class singlepass.Status
---@field state string of the newest notification
---@field target string?
---@field message string the newest, as the server worded it
---@field text string for the statusline
---@field last string what the last job took, `0.2 s + 61 tok/s`; empty before there was one
local Status = {}
Status.__index = Status

---@return singlepass.Status
function Status.new()
  return setmetatable({ state = "idle", message = "", text = "ready", last = "" }, Status)
end

local FINAL = { done = true, failed = true, cancelled = true }

---@param state string
---@return boolean
function Status.is_final(state)
  return FINAL[state] or false
end

--- A number, unless the server does not know it.
---@param value any
---@return number?
local function known(value)
  return type(value) == "number" and value or nil
end

--- `3 s`, `2 min 5 s`: hundredths would be too exact for a wait that changes all the time.
---@param ms number
---@return string
local function wait(ms)
  local seconds = math.ceil(ms / 1000)
  if seconds < 100 then
    return ("%d s"):format(seconds)
  end
  return ("%d min %d s"):format(math.floor(seconds / 60), seconds % 60)
end

---@param params singlepass.StatusParams
---@return string
local function words(params)
  local state, percent = params.state, known(params.percent)
  if state == "prefill" then
    local left = known(params.eta_ms) or 0
    local read = percent and ("prefill %d%%"):format(percent) or "prefill"
    return left > 0 and ("%s · %s left"):format(read, wait(left)) or read
  elseif state == "decode" then
    local rate = known(params.decode_rate) or 0
    return rate > 0 and ("decode %.0f tok/s"):format(rate) or "decode"
  elseif state == "loading" or state == "warming" then
    return percent and ("%s %d%%"):format(state, percent) or state
  elseif state == "demo_model" then
    return "demo model"
  end
  return state
end

---@param params singlepass.StatusParams
function Status:feed(params)
  if params.target and params.target ~= vim.NIL then
    self.target = params.target
  end
  if params.state == "target" then
    if self.state == "demo_model" then
      self.state, self.message, self.text = "idle", "", "ready"
    end
    return -- another target, nothing else
  end
  self.state, self.message = params.state, params.message or ""
  self.text = words(params)
  if params.state == "warm" and self.last ~= "" then
    self.text = ("warm · %s"):format(self.last)
  elseif params.state == "done" then
    self.text = self.last ~= "" and ("done · %s"):format(self.last) or "done"
  end
end

---@param params singlepass.TimingsParams
function Status:feed_timings(params)
  local numbers = params.timings
  if params.outcome ~= "done" or not numbers or numbers == vim.NIL then
    return
  end
  local parts = {}
  if params.ttft_ms and params.ttft_ms ~= vim.NIL then
    parts[#parts + 1] = ("%.1f s"):format(params.ttft_ms / 1000)
  end
  if numbers.decode_ms > 0 and numbers.n_decoded > 0 then
    parts[#parts + 1] = ("%.0f tok/s"):format(numbers.n_decoded / numbers.decode_ms * 1000)
  end
  self.last = table.concat(parts, " + ")
end

return Status
