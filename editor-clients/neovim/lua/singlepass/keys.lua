--- Mappings, all of them in the buffer. Those for a review are there only while hunks are, and what they
--- cover comes back after it.

local config = require("singlepass.config")

local M = {}

local REVIEW = { "keep", "undo", "keep_all", "undo_all", "next", "previous" }
local ALWAYS = { "cancel", "retry" }

local DESCRIPTIONS = {
  edit = "edit with an instruction",
  cancel = "cancel",
  retry = "try again",
  keep = "keep hunk",
  undo = "undo hunk",
  keep_all = "keep all hunks",
  undo_all = "undo all hunks",
  next = "next hunk",
  previous = "previous hunk",
}

---@type table<integer, table[]> mappings of the buffer's own that ours cover
local covered = {}

---@param bufnr integer
---@param mode string
---@param name string
---@param action fun()
local function map(bufnr, mode, name, action)
  local key = (config.current.keys or {})[name]
  if key then
    vim.keymap.set(mode, key, action, { buffer = bufnr, desc = "singlepass: " .. DESCRIPTIONS[name] })
  end
end

--- The mappings of every buffer that the server knows.
---@param bufnr integer
function M.set(bufnr)
  local singlepass = require("singlepass")
  for _, name in ipairs(ALWAYS) do
    map(bufnr, "n", name, singlepass[name])
  end
  map(bufnr, "n", "edit", function()
    singlepass.edit()
  end)
  map(bufnr, "x", "edit", function()
    local first, last = vim.fn.line("v"), vim.fn.line(".")
    vim.api.nvim_feedkeys(vim.keycode("<Esc>"), "nx", false)
    singlepass.edit({ first = math.min(first, last), last = math.max(first, last) })
  end)
end

---@param bufnr integer
---@param is_on boolean
function M.set_review(bufnr, is_on)
  if is_on == (covered[bufnr] ~= nil) or not vim.api.nvim_buf_is_valid(bufnr) then
    return
  end
  local keys = config.current.keys or {}
  if not is_on then
    for _, name in ipairs(REVIEW) do
      if keys[name] then
        pcall(vim.keymap.del, "n", keys[name], { buffer = bufnr })
      end
    end
    local before = covered[bufnr]
    covered[bufnr] = nil
    vim.api.nvim_buf_call(bufnr, function()
      for _, mapping in ipairs(before) do
        vim.fn.mapset("n", false, mapping)
      end
    end)
    return
  end
  covered[bufnr] = {}
  vim.api.nvim_buf_call(bufnr, function()
    for _, name in ipairs(REVIEW) do
      local mapping = keys[name] and vim.fn.maparg(keys[name], "n", false, true) or {}
      if mapping.buffer == 1 then
        table.insert(covered[bufnr], mapping)
      end
    end
  end)
  local singlepass = require("singlepass")
  for _, name in ipairs(REVIEW) do
    map(bufnr, "n", name, singlepass[name])
  end
end

return M
