--- The hunks in review: which there are, where, and what the user decides about them.
---
--- The server says what is in review (`singlepass/hunks`); between two of its notifications the rows are
--- followed by extmarks. A hunk whose lines the user changes leaves review: it counts as kept.

local apply = require("singlepass.apply")
local render = require("singlepass.render")
local spans = require("singlepass.spans")
local undo = require("singlepass.undo")

local M = {}

---@class singlepass.Hunk
---@field id integer
---@field old string[]
---@field new string[]
---@field anchor integer

---@class singlepass.Review of one buffer
---@field client_id integer
---@field job integer the newest of its hunks
---@field hunks table<integer, singlepass.Hunk>

---@type table<integer, singlepass.Review>
local reviews = {}

---@type table<integer, singlepass.Change[]>
local changes = {}

local MAX_CHANGES = 500

--- Remember the changes of a buffer, for hunks that are told of in rows of an earlier version.
---@param bufnr integer
function M.watch(bufnr)
  if changes[bufnr] then
    return
  end
  changes[bufnr] = {}
  vim.api.nvim_buf_attach(bufnr, false, {
    on_lines = function(_, _, version, first, last, new_last)
      local log = changes[bufnr]
      if not log then
        return true -- nobody wants to know any more
      end
      log[#log + 1] = { version = version, first = first, last = last, new_last = new_last }
      if #log > MAX_CHANGES then
        table.remove(log, 1)
      end
    end,
    on_reload = function()
      changes[bufnr] = {}
    end,
    on_detach = function()
      M.forget(bufnr)
    end,
  })
end

---@param bufnr integer
---@return singlepass.Hunk[] from the top
local function sorted(bufnr)
  local review = reviews[bufnr]
  local found = review and vim.tbl_values(review.hunks) or {} ---@type singlepass.Hunk[]
  local row = {} ---@type table<integer, integer>
  for _, hunk in ipairs(found) do
    row[hunk.id] = render.rows(bufnr, hunk.anchor) or 0
  end
  table.sort(found, function(a, b)
    if row[a.id] ~= row[b.id] then
      return row[a.id] < row[b.id]
    end
    return a.id < b.id
  end)
  return found
end

--- Take the notification `singlepass/hunks`.
---@param client_id integer
---@param params { job: integer, uri: string, version: integer?, hunks: table[] }
function M.feed(client_id, params)
  local bufnr = vim.uri_to_bufnr(params.uri)
  if not vim.api.nvim_buf_is_loaded(bufnr) then
    return -- nothing to see; it is told again when the document is opened
  end
  local version = params.version ~= vim.NIL and params.version or nil
  local is_current = version == nil or version == apply.version(bufnr)
  local before = reviews[bufnr] and reviews[bufnr].hunks or {}
  local after = {} ---@type table<integer, singlepass.Hunk>
  for _, told in ipairs(params.hunks) do
    local known = before[told.id]
    if known and not is_current then
      after[told.id] = known -- its extmark knows better
    else
      if known then
        render.drop_anchor(bufnr, known.anchor)
      end
      local first, last, old, new = spans.whole_lines(told)
      first, last = spans.rebase(changes[bufnr] or {}, version, first, last)
      after[told.id] = { id = told.id, old = old, new = new, anchor = render.anchor(bufnr, first, last) }
    end
  end
  for id, hunk in pairs(before) do
    if not after[id] then
      render.drop_anchor(bufnr, hunk.anchor)
    end
  end
  local is_over = next(after) == nil
  reviews[bufnr] = not is_over and { client_id = client_id, job = params.job, hunks = after } or nil
  render.draw(bufnr, sorted(bufnr))
  require("singlepass.keys").set_review(bufnr, not is_over)
  M.changed(bufnr)
end

---@type table<integer, integer> the client that shows something in a buffer
local previews = {}

--- Take the notification `singlepass/preview`: a hunk that is being written, or that none is any more.
---@param client_id integer
---@param params { uri: string, version: any, range: any, lines: string[] }
function M.preview(client_id, params)
  local bufnr = vim.uri_to_bufnr(params.uri)
  if not vim.api.nvim_buf_is_loaded(bufnr) then
    return
  end
  if #params.lines == 0 then
    previews[bufnr] = nil
    return render.preview(bufnr, 0, 0, {})
  end
  local start, stop = params.range.start.line, params.range["end"]
  local last = stop.line + (stop.character > 0 and 1 or 0)
  local first ---@type integer
  first, last = spans.rebase(changes[bufnr] or {}, params.version, start, last)
  previews[bufnr] = client_id
  render.preview(bufnr, first, last, params.lines)
end

--- Let others follow: the autocommand `User SinglepassHunks`.
---@param bufnr integer
function M.changed(bufnr)
  vim.api.nvim_exec_autocmds("User", {
    pattern = "SinglepassHunks",
    modeline = false,
    data = { buf = bufnr, n_hunks = M.count(bufnr) },
  })
end

--- How many hunks are in review in a buffer.
---@param bufnr integer
---@return integer
function M.count(bufnr)
  local review = reviews[bufnr]
  return review and vim.tbl_count(review.hunks) or 0
end

---@class singlepass.Place a hunk in review; lines count from 1
---@field bufnr integer
---@field id integer
---@field job integer
---@field first integer
---@field last integer inclusive; `first - 1` where nothing is left of the lines
---@field old string[]
---@field new string[]

--- All hunks in review, buffer by buffer, from the top.
---@param only integer? a buffer
---@return singlepass.Place[]
function M.list(only)
  local found = {} ---@type singlepass.Place[]
  local buffers = vim.tbl_keys(reviews)
  table.sort(buffers)
  for _, bufnr in ipairs(buffers) do
    if (not only or bufnr == only) and vim.api.nvim_buf_is_loaded(bufnr) then
      for _, hunk in ipairs(sorted(bufnr)) do
        local first, last = render.rows(bufnr, hunk.anchor)
        if first and last then
          found[#found + 1] = {
            bufnr = bufnr,
            id = hunk.id,
            job = reviews[bufnr].job,
            first = first + 1,
            last = last,
            old = hunk.old,
            new = hunk.new,
          }
        end
      end
    end
  end
  return found
end

--- The hunk at a line, or beside it where nothing is left of its lines.
---@param bufnr integer
---@param line integer from 1
---@return singlepass.Place?
function M.at(bufnr, line)
  local beside ---@type singlepass.Place?
  for _, place in ipairs(M.list(bufnr)) do
    if place.first <= line and line <= place.last then
      return place
    end
    if place.last < place.first and (line == place.first or line == place.first - 1) then
      beside = beside or place
    end
  end
  return beside
end

---@param place singlepass.Place
local function go_to(place)
  if place.bufnr ~= vim.api.nvim_get_current_buf() then
    vim.cmd.buffer(place.bufnr)
  end
  vim.cmd("normal! m'") -- so that `` goes back
  local last = vim.api.nvim_buf_line_count(place.bufnr)
  vim.api.nvim_win_set_cursor(0, { math.min(place.first, last), 0 })
  vim.cmd("normal! zv")
  if place.first == 1 then
    render.show_above_first_line(place.bufnr, #place.old)
  end
end

--- Go to the next hunk (or the previous one), of this buffer and then of the others, around the end.
---@param backwards boolean?
---@return boolean # whether there is one
function M.jump(backwards)
  local places = M.list()
  if #places == 0 then
    return false
  end
  local bufnr, line = vim.api.nvim_get_current_buf(), vim.api.nvim_win_get_cursor(0)[1]
  local last_line = vim.api.nvim_buf_line_count(bufnr)
  local is_after = function(place)
    -- A hunk at the very end leaves no line of its own to stand on.
    return place.bufnr > bufnr or (place.bufnr == bufnr and math.min(place.first, last_line) > line)
  end
  local is_before = function(place)
    return place.bufnr < bufnr or (place.bufnr == bufnr and math.min(place.first, last_line) < line)
  end
  local target ---@type singlepass.Place?
  if backwards then
    target = vim.iter(places):rfind(is_before) or places[#places]
  else
    target = vim.iter(places):find(is_after) or places[1]
  end
  go_to(assert(target))
  return true
end

--- The server that knows the hunks of a buffer.
---@param bufnr integer
---@return integer?
function M.client_id(bufnr)
  return reviews[bufnr] and reviews[bufnr].client_id
end

--- Nothing is in review in this buffer any more.
---@param bufnr integer
function M.clear(bufnr)
  if reviews[bufnr] then
    reviews[bufnr] = nil
    render.clear(bufnr)
    require("singlepass.keys").set_review(bufnr, false)
    M.changed(bufnr)
  end
end

--- The server has ended: nobody could undo any more.
---@param client_id integer
function M.clear_client(client_id)
  for bufnr, review in pairs(vim.deepcopy(reviews)) do
    if review.client_id == client_id then
      M.clear(bufnr)
    end
  end
  for bufnr, id in pairs(vim.deepcopy(previews)) do
    if id == client_id and vim.api.nvim_buf_is_loaded(bufnr) then
      previews[bufnr] = nil
      render.preview(bufnr, 0, 0, {})
    end
  end
end

---@param bufnr integer
function M.forget(bufnr)
  reviews[bufnr], changes[bufnr], previews[bufnr] = nil, nil, nil
  undo.forget(bufnr)
end

return M
