--- What can be set, with its defaults. `setup()` checks what it is given and names every mistake.

local M = {}

---@class singlepass.Keys
---@field edit? string|false ask for an instruction (normal mode: this line; visual mode: the selection)
---@field cancel? string|false stop the job of this buffer
---@field retry? string|false take the last job back and ask again
---@field keep? string|false keep the hunk at the cursor; only while hunks are in review, like the rest
---@field undo? string|false undo the hunk at the cursor
---@field keep_all? string|false
---@field undo_all? string|false
---@field next? string|false
---@field previous? string|false

---@class singlepass.Config
---@field cmd string[]|false how to start the server; `false` finds it
---@field filetypes string[]|false where the server starts by itself; `false` for everywhere
---@field root_markers string[] what the root folder of a project holds
---@field settings table the server's settings, as in docs/settings.md
---@field keys singlepass.Keys|false
---@field input "float"|"ui" where the instruction is typed: our own window, or `vim.ui.input`
---@field signs boolean a sign at changed lines
---@field hints boolean the keys, at each hunk
---@field preview boolean the lines of a hunk while it is written
---@field history_size integer instructions to remember

---@type singlepass.Config
M.defaults = {
  cmd = false,
  filetypes = false,
  root_markers = { ".singlepass.toml", ".git" },
  settings = {},
  keys = {
    edit = "<leader>pp",
    cancel = "<leader>pc",
    retry = "<leader>pr",
    keep = "<leader>pk",
    undo = "<leader>pu",
    keep_all = "<leader>pK",
    undo_all = "<leader>pU",
    next = "]h",
    previous = "[h",
  },
  input = "float",
  signs = true,
  hints = true,
  preview = true,
  history_size = 100,
}

---@type singlepass.Config
M.current = vim.deepcopy(M.defaults)

---@param value any
---@return boolean
local function is_strings(value)
  return vim.islist(value) and vim.iter(value):all(function(item)
    return type(item) == "string"
  end)
end

---@type table<string, {[1]: string, [2]: fun(value: any): boolean}>
local checks = {
  cmd = {
    "a list of strings, or false",
    function(value)
      return value == false or (is_strings(value) and #value > 0)
    end,
  },
  filetypes = {
    "a list of strings, or false",
    function(value)
      return value == false or is_strings(value)
    end,
  },
  root_markers = { "a list of strings", is_strings },
  settings = {
    "a table",
    function(value)
      return type(value) == "table"
    end,
  },
  keys = {
    "a table of keys, each a string or false; or false for none",
    function(value)
      if value == false then
        return true
      end
      return type(value) == "table"
        and vim.iter(value):all(function(name, key)
          return M.defaults.keys[name] ~= nil and (key == false or type(key) == "string")
        end)
    end,
  },
  input = {
    '"float" or "ui"',
    function(value)
      return value == "float" or value == "ui"
    end,
  },
  history_size = {
    "a number, 0 or more",
    function(value)
      return type(value) == "number" and value >= 0
    end,
  },
}
for _, name in ipairs({ "signs", "hints", "preview" }) do
  checks[name] = {
    "true or false",
    function(value)
      return type(value) == "boolean"
    end,
  }
end

--- Take the user's options over the defaults. What is wrong is left out and named.
---@param options table?
---@return string[] problems
function M.set(options)
  local problems, usable = {}, {}
  for name, value in vim.spairs(options or {}) do
    local check = checks[name]
    if not check then
      problems[#problems + 1] = ("unknown option `%s`"):format(name)
    elseif not check[2](value) then
      problems[#problems + 1] = ("`%s` takes %s"):format(name, check[1])
    else
      usable[name] = value
    end
  end
  M.current = vim.tbl_deep_extend("force", vim.deepcopy(M.defaults), usable)
  return problems
end

return M
