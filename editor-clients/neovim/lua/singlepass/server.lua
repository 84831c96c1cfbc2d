--- Where the server's program is, and how to get it.

local compat = require("singlepass.compat")
local config = require("singlepass.config")

local M = {}

--- The folder of the server that `:Singlepass install` makes.
---@return string
function M.own_folder()
  return vim.fs.joinpath(vim.fn.stdpath("data") --[[@as string]], "singlepass", "venv")
end

--- The command that starts the server, and where it was found. Only what the user installed counts: never a
--- program in the project that is open.
---@return string[]? command
---@return string where
function M.find()
  if config.current.cmd then
    return config.current.cmd --[[@as string[] ]], "setup()"
  end
  local places = {
    { M.own_folder() .. "/bin/singlepass", ":Singlepass install" },
    { vim.fn.exepath("singlepass"), "PATH" },
    { vim.fs.normalize("~/.local/bin/singlepass"), "~/.local/bin" },
  }
  for _, place in ipairs(places) do
    if place[1]:sub(1, 1) == "/" and vim.fn.executable(place[1]) == 1 then
      return { place[1], "serve" }, place[2]
    end
  end
  return nil, ""
end

M.MISSING = "the server was not found. `:Singlepass install` gets it; `:checkhealth singlepass` tells more"

--- The repository that this plugin is a part of; nil where it was copied out of it.
---@return string?
local function source()
  local here = vim.fs.dirname(debug.getinfo(1, "S").source:sub(2))
  local root = vim.fs.normalize(vim.fs.joinpath(here, "..", "..", "..", ".."))
  root = vim.uv.fs_realpath(root) or root
  return vim.uv.fs_stat(vim.fs.joinpath(root, "server", "singlepass")) and root or nil
end

--- Install the server into a folder of its own, in a terminal where the user sees what happens.
---@param done fun()? called when it is there
function M.install(done)
  local folder = M.own_folder()
  local python = vim.fn.exepath("python3")
  if python == "" then
    vim.notify("singlepass: Python 3.11 or later is needed, and there is no python3", vim.log.levels.ERROR)
    return
  end
  local quoted = vim.tbl_map(vim.fn.shellescape, { python, folder, folder .. "/bin/pip", source() or "singlepass" })
  local script = ("%s -m venv --clear %s && %s install %s"):format(unpack(quoted))
  vim.cmd("botright 12new")
  local window = vim.api.nvim_get_current_win()
  compat.terminal({ "sh", "-c", script }, function(code)
    if code == 0 then
      pcall(vim.api.nvim_win_close, window, true) -- the user may have closed it
      vim.notify("singlepass: the server is installed")
      require("singlepass.client").start_everywhere()
      if done then
        done()
      end
    else
      vim.notify("singlepass: the installation failed; the window below says why", vim.log.levels.ERROR)
    end
  end)
  vim.cmd("normal! G")
  vim.cmd.wincmd("p")
end

return M
