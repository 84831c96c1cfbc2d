--- Where the instruction is typed: a small window at the cursor. <CR> sends, <Up> and <Down> go through what
--- was asked before, <C-j> starts another line, <C-c> (or <Esc> twice) closes.

local config = require("singlepass.config")
local history = require("singlepass.history")

local M = {}

local MAX_WIDTH, MAX_HEIGHT = 76, 8

---@class singlepass.Prompt
---@field bufnr integer
---@field window integer
---@field past string[] the newest last
---@field place integer in `past`; `#past + 1` is what is being typed
---@field draft string
---@field callback fun(instruction: string?)
local Prompt = {}
Prompt.__index = Prompt

---@return string
function Prompt:text()
  return table.concat(vim.api.nvim_buf_get_lines(self.bufnr, 0, -1, false), "\n")
end

---@param text string
function Prompt:set_text(text)
  local lines = vim.split(text, "\n", { plain = true })
  vim.api.nvim_buf_set_lines(self.bufnr, 0, -1, false, lines)
  vim.api.nvim_win_set_cursor(self.window, { #lines, #lines[#lines] })
  self:fit()
end

--- As high as the text needs.
function Prompt:fit()
  local width = vim.api.nvim_win_get_width(self.window)
  local height = 0
  for _, line in ipairs(vim.api.nvim_buf_get_lines(self.bufnr, 0, -1, false)) do
    height = height + math.max(1, math.ceil((vim.fn.strdisplaywidth(line) + 1) / width))
  end
  vim.api.nvim_win_set_height(self.window, math.min(MAX_HEIGHT, height))
end

---@param step integer -1 for older
function Prompt:browse(step)
  local place = self.place + step
  if place < 1 or place > #self.past + 1 then
    return
  end
  if self.place == #self.past + 1 then
    self.draft = self:text()
  end
  self.place = place
  self:set_text(self.past[place] or self.draft)
end

---@param instruction string?
function Prompt:close(instruction)
  local callback = self.callback
  self.callback = function() end -- closing the window comes back here
  if vim.api.nvim_win_is_valid(self.window) then
    vim.cmd.stopinsert()
    vim.api.nvim_win_close(self.window, true)
  end
  callback(instruction)
end

function Prompt:send()
  local instruction = vim.trim(self:text())
  self:close(instruction ~= "" and instruction or nil)
end

function Prompt:map()
  local function set(modes, key, action)
    vim.keymap.set(modes, key, action, { buffer = self.bufnr, nowait = true })
  end
  local function close()
    self:close(nil)
  end
  set({ "n", "i" }, "<CR>", function()
    self:send()
  end)
  set({ "n", "i" }, "<Up>", function()
    self:browse(-1)
  end)
  set({ "n", "i" }, "<Down>", function()
    self:browse(1)
  end)
  set({ "n", "i" }, "<C-c>", close)
  set("n", "<Esc>", close)
  set("n", "q", close)
end

---@param title string
---@param default string
---@param callback fun(instruction: string?)
local function open(title, default, callback)
  local bufnr = vim.api.nvim_create_buf(false, true)
  vim.bo[bufnr].bufhidden = "wipe"
  vim.bo[bufnr].filetype = "singlepass-prompt"
  local window = vim.api.nvim_open_win(bufnr, true, {
    relative = "cursor",
    row = 1,
    col = 0,
    width = math.max(20, math.min(MAX_WIDTH, vim.o.columns - 4)),
    height = 1,
    style = "minimal",
    border = "rounded",
    title = (" %s "):format(title),
    footer = " ⏎ send · ↑ earlier · ^J new line · ^C close ",
    footer_pos = "right",
  })
  vim.wo[window].wrap = true
  vim.wo[window].linebreak = true
  local past = history.load()
  local self = setmetatable({
    bufnr = bufnr,
    window = window,
    past = past,
    place = #past + 1,
    draft = default,
    callback = callback,
  }, Prompt)
  self:set_text(default)
  self:map()
  vim.api.nvim_create_autocmd({ "TextChanged", "TextChangedI" }, {
    buffer = bufnr,
    callback = function()
      self:fit()
    end,
  })
  vim.api.nvim_create_autocmd("WinLeave", {
    buffer = bufnr,
    once = true,
    callback = function()
      vim.schedule(function()
        self:close(nil)
      end)
    end,
  })
  vim.cmd("startinsert!")
end

--- Ask for an instruction; nil when the user thinks better of it.
---@param title string
---@param default string
---@param callback fun(instruction: string?)
function M.ask(title, default, callback)
  local function take(instruction)
    if instruction and vim.trim(instruction) ~= "" then
      history.add(vim.trim(instruction))
      callback(vim.trim(instruction))
    else
      callback(nil)
    end
  end
  if config.current.input == "ui" then
    vim.ui.input({ prompt = title .. ": ", default = default }, take)
  else
    open(title, default, take)
  end
end

return M
