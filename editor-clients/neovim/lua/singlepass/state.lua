--- What is known of each server that runs: its status, its jobs, its last results.

local Status = require("singlepass.status")

local M = {}

---@class singlepass.Job
---@field id integer
---@field uri string
---@field state string
---@field text string the status of this job
---@field mark { bufnr: integer, id: integer }? the extmark over what was selected

---@class singlepass.ServerState
---@field status singlepass.Status
---@field jobs table<integer, singlepass.Job> those in flight
---@field results singlepass.TimingsParams[] the newest last

---@type table<integer, singlepass.ServerState>
local states = {}

local MAX_RESULTS = 20

---@param client_id integer
---@return singlepass.ServerState
function M.of(client_id)
  states[client_id] = states[client_id] or { status = Status.new(), jobs = {}, results = {} }
  return states[client_id]
end

---@param client_id integer
function M.forget(client_id)
  states[client_id] = nil
end

---@param client_id integer
---@param params singlepass.TimingsParams
function M.add_result(client_id, params)
  local state = M.of(client_id)
  state.status:feed_timings(params)
  table.insert(state.results, params)
  if #state.results > MAX_RESULTS then
    table.remove(state.results, 1)
  end
end

--- The job in flight that an edit of this document belongs to: the document's own, else the newest, which
--- edits several files.
---@param client_id integer
---@param uri string
---@return integer?
function M.job_for(client_id, uri)
  local newest ---@type integer?
  for id, job in pairs(M.of(client_id).jobs) do
    if job.uri == uri then
      return id
    end
    newest = math.max(newest or 0, id)
  end
  return newest
end

return M
