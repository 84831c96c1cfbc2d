--- `:checkhealth singlepass`.

local config = require("singlepass.config")
local server = require("singlepass.server")

local M = {}

---@param command string[]
---@return boolean ok
---@return string[] lines
local function output(command)
  local ok, running = pcall(vim.system, command, { text = true, timeout = 20000 })
  if not ok then
    return false, { tostring(running) }
  end
  local done = running:wait()
  local text = vim.trim((done.stdout or "") .. (done.stderr or ""))
  return done.code == 0, vim.split(text, "\n", { trimempty = true })
end

local function check_editor()
  vim.health.start("singlepass: editor")
  local version = tostring(vim.version())
  if vim.fn.has("nvim-0.10") == 1 then
    vim.health.ok("Neovim " .. version)
  else
    vim.health.error("Neovim 0.10 or later is needed; this is " .. version)
  end
  local problems = config.set(config.current)
  for _, problem in ipairs(problems) do
    vim.health.warn(problem)
  end
end

local function check_server()
  vim.health.start("singlepass: server")
  local command, where = server.find()
  if not command then
    vim.health.error("the server was not found", {
      ":Singlepass install puts it into " .. server.own_folder(),
      "or install it yourself so that `singlepass` is in PATH",
      'or name it: require("singlepass").setup({ cmd = { "/path/to/singlepass", "serve" } })',
    })
    return
  end
  vim.health.ok(("%s (found by %s)"):format(table.concat(command, " "), where))
  if command[#command] ~= "serve" then
    return
  end
  -- The server's own look at the machine and the settings' file; it does not know setup()'s settings.
  local doctor = vim.list_slice(command, 1, #command - 1)
  local model = vim.tbl_get(config.current.settings, "target", "model")
  local backend = vim.tbl_get(config.current.settings, "target", "backend")
  vim.list_extend(doctor, { "doctor" })
  if type(model) == "string" and backend == nil then
    vim.list_extend(doctor, { "--model", model })
  elseif vim.tbl_get(config.current.settings, "target") ~= nil then
    vim.health.info("the target is set in setup(), so `singlepass doctor` cannot see it")
    return
  end
  local ok, lines = output(doctor)
  if ok then
    vim.health.ok("singlepass doctor")
  else
    vim.health.error("singlepass doctor found a problem")
  end
  for _, line in ipairs(lines) do
    vim.health.info(line)
  end
end

local function check_clients()
  vim.health.start("singlepass: running")
  local clients = vim.lsp.get_clients({ name = "singlepass" })
  if #clients == 0 then
    vim.health.info("no server runs; one starts with the first file that is opened")
  end
  local state = require("singlepass.state")
  for _, client in ipairs(clients) do
    local root = client.config.root_dir or "no folder"
    vim.health.ok(("%s: %s"):format(root, state.of(client.id).status.text))
  end
end

function M.check()
  check_editor()
  check_server()
  check_clients()
end

return M
