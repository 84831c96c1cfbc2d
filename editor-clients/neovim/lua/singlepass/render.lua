--- Hunks and running jobs as extmarks: added lines coloured, removed ones as virtual lines above them.

local config = require("singlepass.config")
local spans = require("singlepass.spans")

local M = {}

local anchors = vim.api.nvim_create_namespace("singlepass.anchors")
local marks = vim.api.nvim_create_namespace("singlepass.hunks")
local working = vim.api.nvim_create_namespace("singlepass.working")
local preview = vim.api.nvim_create_namespace("singlepass.preview")

M.namespaces = { anchors = anchors, hunks = marks, working = working, preview = preview }

--- Lines of a preview that are shown; above them it says how many more there are.
local MAX_PREVIEW = 15

--- Follow the rows of a hunk from now on.
---@param bufnr integer
---@param first integer
---@param last integer exclusive
---@return integer id of the extmark
function M.anchor(bufnr, first, last)
  local n = vim.api.nvim_buf_line_count(bufnr)
  first, last = math.min(first, n), math.min(last, n)
  -- Text typed right before or after a hunk is not the hunk's.
  return vim.api.nvim_buf_set_extmark(bufnr, anchors, first, 0, {
    end_row = math.max(first, last),
    end_col = 0,
    right_gravity = last > first,
    end_right_gravity = false,
    strict = false,
  })
end

---@param bufnr integer
---@param id integer
---@return integer? first
---@return integer? last exclusive
function M.rows(bufnr, id)
  local mark = vim.api.nvim_buf_get_extmark_by_id(bufnr, anchors, id, { details = true })
  if not mark[1] then
    return nil
  end
  return mark[1], math.max(mark[1], mark[3].end_row or mark[1])
end

---@param bufnr integer
---@param id integer
function M.drop_anchor(bufnr, id)
  vim.api.nvim_buf_del_extmark(bufnr, anchors, id)
end

--- A line as it would look in the buffer, coloured over the whole width.
---@param bufnr integer
---@param line string
---@param group string
---@return {[1]: string, [2]: string}[]
local function virtual_line(bufnr, line, group)
  local tab = (" "):rep(vim.bo[bufnr].tabstop)
  local shown = vim.fn.strtrans((line:gsub("\t", tab)))
  local fill = (" "):rep(math.max(0, vim.o.columns - vim.fn.strdisplaywidth(shown)))
  return { { shown .. fill, group } }
end

---@param bufnr integer
---@param first integer row of the hunk
---@param piece singlepass.Piece
local function draw_piece(bufnr, first, piece)
  local n = vim.api.nvim_buf_line_count(bufnr)
  local row = first + piece.row
  for added = row, math.min(row + piece.n_added, n) - 1 do
    vim.api.nvim_buf_set_extmark(bufnr, marks, added, 0, {
      line_hl_group = "SinglepassAdded",
      sign_text = config.current.signs and "┃" or nil,
      sign_hl_group = config.current.signs and "SinglepassAddedSign" or nil,
      priority = 20,
    })
  end
  if #piece.removed > 0 then
    local is_below = row >= n
    vim.api.nvim_buf_set_extmark(bufnr, marks, is_below and n - 1 or row, 0, {
      virt_lines = vim.tbl_map(function(line)
        return virtual_line(bufnr, line, "SinglepassRemoved")
      end, piece.removed),
      virt_lines_above = not is_below,
      sign_text = config.current.signs and piece.n_added == 0 and "▁" or nil,
      sign_hl_group = config.current.signs and piece.n_added == 0 and "SinglepassRemovedSign" or nil,
      priority = 19,
    })
    if row == 0 and not is_below then
      M.show_above_first_line(bufnr, #piece.removed)
    end
  end
end

--- Virtual lines above the first line are outside every window until it is scrolled to them.
---@param bufnr integer
---@param n_lines integer
function M.show_above_first_line(bufnr, n_lines)
  for _, window in ipairs(vim.fn.win_findbuf(bufnr)) do
    vim.api.nvim_win_call(window, function()
      if vim.fn.line("w0") == 1 then
        vim.fn.winrestview({ topline = 1, topfill = n_lines })
      end
    end)
  end
end

--- Show the lines of a hunk that is being written, after those that it repeats.
---@param bufnr integer
---@param first integer the rows that it is about
---@param last integer exclusive
---@param lines string[] so far; none for nothing
function M.preview(bufnr, first, last, lines)
  vim.api.nvim_buf_clear_namespace(bufnr, preview, 0, -1)
  local old = vim.api.nvim_buf_get_lines(bufnr, first, last, false)
  local n_same = 0
  while n_same < #old and old[n_same + 1] == lines[n_same + 1] do
    n_same = n_same + 1
  end
  local n_more = #lines - n_same
  if n_more == 0 then
    return
  end
  local shown = vim.tbl_map(function(line)
    return virtual_line(bufnr, line, "SinglepassPreview")
  end, vim.list_slice(lines, math.max(n_same, #lines - MAX_PREVIEW) + 1))
  if n_more > #shown then
    table.insert(shown, 1, { { ("⋮ %d more above"):format(n_more - #shown), "SinglepassHint" } })
  end
  local is_above = n_same == 0 and first == 0
  local row = is_above and 0 or first + n_same - 1
  vim.api.nvim_buf_set_extmark(bufnr, preview, row, 0, {
    virt_lines = shown,
    virt_lines_above = is_above,
    strict = false,
  })
  if is_above then
    M.show_above_first_line(bufnr, #shown)
  end
end

---@param bufnr integer
---@param first integer
---@param text string
local function draw_hint(bufnr, first, text)
  local row = math.min(first, vim.api.nvim_buf_line_count(bufnr) - 1)
  vim.api.nvim_buf_set_extmark(bufnr, marks, row, 0, {
    virt_text = { { text, "SinglepassHint" } },
    virt_text_pos = "right_align",
    hl_mode = "combine",
    priority = 21,
  })
end

--- Draw all hunks of a buffer anew.
---@param bufnr integer
---@param hunks singlepass.Hunk[] from the top
function M.draw(bufnr, hunks)
  vim.api.nvim_buf_clear_namespace(bufnr, marks, 0, -1)
  local keys = config.current.keys or {}
  for number, hunk in ipairs(hunks) do
    local first = M.rows(bufnr, hunk.anchor)
    if first then
      for _, piece in ipairs(spans.pieces(hunk.old, hunk.new)) do
        draw_piece(bufnr, first, piece)
      end
      if config.current.hints then
        local parts = { ("%d/%d"):format(number, #hunks) }
        for _, name in ipairs({ "keep", "undo" }) do
          parts[#parts + 1] = keys[name] and ("%s %s"):format(name, keys[name]) or nil
        end
        draw_hint(bufnr, first, table.concat(parts, " · "))
      end
    end
  end
end

---@param bufnr integer
function M.clear(bufnr)
  if vim.api.nvim_buf_is_valid(bufnr) then
    for _, namespace in pairs(M.namespaces) do
      vim.api.nvim_buf_clear_namespace(bufnr, namespace, 0, -1)
    end
  end
end

-- What a job works on.

---@param bufnr integer
---@param first integer
---@param last integer exclusive
---@return integer id
function M.mark_working(bufnr, first, last)
  local n = vim.api.nvim_buf_line_count(bufnr)
  first = math.min(first, n - 1)
  return vim.api.nvim_buf_set_extmark(bufnr, working, first, 0, {
    end_row = math.min(math.max(last, first + 1), n),
    hl_group = "SinglepassWorking",
    hl_eol = true,
    priority = 10,
    strict = false,
  })
end

--- Say at the marked lines how far the job is.
---@param mark { bufnr: integer, id: integer }
---@param text string
function M.tell_working(mark, text)
  if not vim.api.nvim_buf_is_valid(mark.bufnr) then
    return
  end
  local found = vim.api.nvim_buf_get_extmark_by_id(mark.bufnr, working, mark.id, { details = true })
  if not found[1] then
    return
  end
  vim.api.nvim_buf_set_extmark(mark.bufnr, working, found[1], found[2], {
    id = mark.id,
    end_row = found[3].end_row,
    end_col = found[3].end_col,
    hl_group = "SinglepassWorking",
    hl_eol = true,
    priority = 10,
    virt_text = { { "singlepass: " .. text, "SinglepassHint" } },
    virt_text_pos = "eol",
    strict = false,
  })
end

---@param mark { bufnr: integer, id: integer }
function M.unmark_working(mark)
  if vim.api.nvim_buf_is_valid(mark.bufnr) then
    vim.api.nvim_buf_del_extmark(mark.bufnr, working, mark.id)
  end
end

return M
