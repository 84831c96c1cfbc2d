--- Where the server's program is, and how to get it.

local compat = require("singlepass.compat")
local config = require("singlepass.config")

local M = {}

--- The folder of the server that `:Singlepass install` makes.
---@return string
function M.own_folder()
  return vim.fs.joinpath(vim.fn.stdpath("data") --[[@as string]], "singlepass", "venv")
end

--- Whether a folder is a part of a project that is open.
---@param folder string
---@return boolean
local function is_in_a_project(folder)
  folder = (vim.uv.fs_realpath(folder) or folder) .. "/"
  return vim.iter(vim.api.nvim_list_bufs()):any(function(bufnr)
    local is_file = vim.api.nvim_buf_is_loaded(bufnr) and vim.bo[bufnr].buftype == ""
    local root = is_file and vim.fs.root(bufnr, config.current.root_markers)
    return root and vim.startswith(folder, (vim.uv.fs_realpath(root) or root) .. "/")
  end)
end

--- A program of PATH; empty where there is none. A relative folder of PATH means the project, or any other, and an
--- environment of the project's own may be active: neither is looked at.
---@param name string
---@return string
local function on_path(name)
  for _, folder in ipairs(vim.split(vim.env.PATH or "", ":", { plain = true })) do
    local path = folder .. "/" .. name
    if folder:sub(1, 1) == "/" and vim.fn.executable(path) == 1 and not is_in_a_project(folder) then
      return path
    end
  end
  return ""
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
    { on_path("singlepass"), "PATH" },
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

local PYTHONS = { "python3", "python3.14", "python3.13", "python3.12", "python3.11" }

-- Ends with 0 where this Python can make an environment, with 3 where it is too old, with 4 where a part is missing.
local PROBE = [[import sys
if sys.version_info < (3, 11): sys.exit(3)
try: import ensurepip, venv
except ImportError: sys.exit(4)]]

--- A Python that can make an environment, or why there is none.
---@return string? path
---@return string problem
local function find_python()
  local problem = "Python 3.11 or later is needed, and there is no python3"
  for _, name in ipairs(PYTHONS) do
    local path = on_path(name)
    if path ~= "" then
      -- -I: nothing of the folder where Neovim was started.
      local _, running = pcall(vim.system, { path, "-I", "-c", PROBE }, { timeout = 20000 })
      local code = type(running) == "table" and running:wait().code
      if code == 0 then
        return path, ""
      elseif code == 4 then
        problem = path .. " lacks its module venv; on Debian and Ubuntu `apt install python3-venv` brings it"
      else
        problem = ("Python 3.11 or later is needed, and %s %s"):format(path, code == 3 and "is older" or "does not run")
      end
    end
  end
  return nil, problem
end

--- Install the server into a folder of its own, in a terminal where the user sees what happens.
---@param done fun()? called when it is there
function M.install(done)
  local folder = M.own_folder()
  local python, problem = find_python()
  if not python then
    vim.notify("singlepass: " .. problem, vim.log.levels.ERROR)
    return
  end
  local quoted = vim.tbl_map(vim.fn.shellescape, { python, folder, folder .. "/bin/pip", source() or "singlepass" })
  local script = ("%s -I -m venv --clear %s && %s install %s"):format(unpack(quoted))
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
