--- Where the lines of a hunk are. Numbers in, numbers out: no editor in here. Rows count from 0.

local M = {}

---@class singlepass.Change a change of a buffer's lines, as `nvim_buf_attach` tells it
---@field version integer
---@field first integer
---@field last integer exclusive, before the change
---@field new_last integer exclusive, after it

--- The rows of a hunk now, from those it had at `version`.
---@param changes singlepass.Change[] the oldest first
---@param version integer?
---@param first integer
---@param last integer exclusive
---@return integer first
---@return integer last
function M.rebase(changes, version, first, last)
  if not version then
    return first, last
  end
  for _, change in ipairs(changes) do
    if change.version > version then
      local shift = change.new_last - change.last
      if change.last <= first then
        first, last = first + shift, last + shift
      elseif change.first < last then
        -- It ran into the hunk, which leaves review for it; until then about the same lines are shown.
        first = math.min(first, change.first)
        last = math.max(last + shift, first)
      end
    end
  end
  return first, last
end

---@param text string
---@return string[]
local function lines_of(text)
  if text == "" then
    return {}
  end
  return vim.split((text:gsub("\r\n?", "\n"):gsub("\n$", "")), "\n", { plain = true })
end

--- A hunk in whole lines: the rows of its new text, its old and its new lines.
---@param hunk { range: lsp.Range, old: string, new: string }
---@return integer first
---@return integer last exclusive
---@return string[] old
---@return string[] new
function M.whole_lines(hunk)
  local start, stop = hunk.range.start, hunk.range["end"]
  local old, new = hunk.old, hunk.new
  local first = start.line
  if start.character > 0 and (new == "" or new:find("^\r?\n")) and (old == "" or old:find("^\r?\n")) then
    -- Lines after one that has no line end: theirs stands before them.
    first, old, new = first + 1, old:gsub("^\r?\n", ""), new:gsub("^\r?\n", "")
  end
  local last = stop.line + (stop.character > 0 and 1 or 0)
  return first, math.max(first, last), lines_of(old), lines_of(new)
end

---@class singlepass.Piece what changed within a hunk, in rows from its first
---@field row integer
---@field n_added integer
---@field removed string[]

--- Which lines of a hunk were added, and which were removed where.
---@param old string[]
---@param new string[]
---@return singlepass.Piece[]
function M.pieces(old, new)
  if #old == 0 or #new == 0 then
    return { { row = 0, n_added = #new, removed = old } }
  end
  local text = function(lines)
    return table.concat(lines, "\n") .. "\n"
  end
  local found = {} ---@type singlepass.Piece[]
  local options = { result_type = "indices", algorithm = "histogram" }
  local diff = vim.diff(text(old), text(new), options) --[[@as integer[][] ]]
  for _, indices in ipairs(diff) do
    local start_old, n_old, start_new, n_new = unpack(indices)
    found[#found + 1] = {
      row = n_new > 0 and start_new - 1 or start_new,
      n_added = n_new,
      removed = n_old > 0 and vim.list_slice(old, start_old, start_old + n_old - 1) or {},
    }
  end
  return found
end

return M
