--- The instructions that were given, over restarts: in `stdpath("state")`, readable for the user alone.

local config = require("singlepass.config")

local M = {}

---@return string
local function path()
  return vim.fs.joinpath(vim.fn.stdpath("state") --[[@as string]], "singlepass", "history.json")
end

---@return string[] # the newest last
function M.load()
  local file = io.open(path(), "r")
  if not file then
    return {}
  end
  local text = file:read("*a")
  file:close()
  local ok, found = pcall(vim.json.decode, text)
  return ok and vim.islist(found) and vim.tbl_filter(function(item)
    return type(item) == "string"
  end, found) or {}
end

---@param instruction string
function M.add(instruction)
  local size = config.current.history_size
  if size == 0 then
    return
  end
  local kept = vim.tbl_filter(function(item)
    return item ~= instruction
  end, M.load())
  kept[#kept + 1] = instruction
  kept = vim.list_slice(kept, math.max(1, #kept - size + 1))
  vim.fn.mkdir(vim.fs.dirname(path()), "p", tonumber("700", 8))
  -- Written beside and renamed, because several editors may do this at once.
  local beside = ("%s.%d"):format(path(), vim.uv.os_getpid())
  local descriptor = vim.uv.fs_open(beside, "w", tonumber("600", 8))
  if descriptor then
    vim.uv.fs_write(descriptor, vim.json.encode(kept))
    vim.uv.fs_close(descriptor)
    vim.uv.fs_rename(beside, path())
  end
end

return M
