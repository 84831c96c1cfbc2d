--- The connection to the server: `vim.lsp.config` where there is one (0.11), `vim.lsp.start` before.

local apply = require("singlepass.apply")
local compat = require("singlepass.compat")
local config = require("singlepass.config")
local render = require("singlepass.render")
local review = require("singlepass.review")
local server = require("singlepass.server")
local state = require("singlepass.state")
local Status = require("singlepass.status")

local M = {}

M.NAME = "singlepass"

local group = vim.api.nvim_create_augroup("singlepass.client", {})

--- Redraw statuslines, and let others follow: the autocommand `User SinglepassStatus`.
local function status_changed()
  vim.cmd.redrawstatus({ bang = true })
  vim.api.nvim_exec_autocmds("User", { pattern = "SinglepassStatus", modeline = false })
end

---@param client_id integer
---@param params singlepass.StatusParams
local function take_status(client_id, params)
  local known = state.of(client_id)
  known.status:feed(params)
  local id = params.job ~= vim.NIL and params.job or nil
  if id then
    local job = known.jobs[id] or { id = id, uri = params.uri, state = "starting", text = "" }
    job.state, job.text = params.state, known.status.text
    known.jobs[id] = job
    if Status.is_final(params.state) then
      known.jobs[id] = nil
      if job.mark then
        render.unmark_working(job.mark)
      end
    elseif job.mark then
      render.tell_working(job.mark, job.text)
    end
  end
  status_changed()
end

---@type table<string, fun(err: any, params: any, ctx: { client_id: integer }): any>
local handlers = {
  ["workspace/applyEdit"] = apply.handler,
  ["singlepass/status"] = function(_, params, ctx)
    take_status(ctx.client_id, params)
  end,
  ["singlepass/timings"] = function(_, params, ctx)
    state.add_result(ctx.client_id, params)
  end,
  ["singlepass/hunks"] = function(_, params, ctx)
    review.feed(ctx.client_id, params)
  end,
  ["singlepass/preview"] = function(_, params, ctx)
    review.preview(ctx.client_id, params)
  end,
}

---@return lsp.ClientCapabilities
local function capabilities()
  return vim.tbl_deep_extend("force", vim.lsp.protocol.make_client_capabilities(), {
    workspace = {
      workspaceEdit = {
        documentChanges = true, -- our handler checks versions, and asks where it should
        changeAnnotationSupport = { groupsOnLabel = true },
        normalizesLineEndings = true,
      },
    },
    textDocument = {
      codeAction = { tagSupport = { valueSet = { 1 } } },
    },
    experimental = { singlepass = { preview = config.current.preview } },
  })
end

---@param client_id integer
local function ended(client_id)
  for _, job in pairs(state.of(client_id).jobs) do
    if job.mark then
      render.unmark_working(job.mark)
    end
  end
  state.forget(client_id)
  review.clear_client(client_id)
  status_changed()
end

---@param client vim.lsp.Client
---@param bufnr integer
local function attached(client, bufnr)
  review.watch(bufnr)
  require("singlepass.keys").set(bufnr)
end

--- How the server is started, for `vim.lsp.config` or `vim.lsp.start`.
---@return vim.lsp.ClientConfig
function M.lsp_config()
  local options = config.current
  return {
    name = M.NAME,
    cmd = function(dispatchers)
      local command = assert(server.find(), "singlepass: " .. server.MISSING)
      return vim.lsp.rpc.start(command, dispatchers)
    end,
    filetypes = options.filetypes or nil,
    -- With the first message, so that a command right after the start finds them; `settings` for changes.
    init_options = vim.deepcopy(options.settings),
    settings = { singlepass = vim.deepcopy(options.settings) },
    capabilities = capabilities(),
    handlers = handlers,
    commands = {
      -- Chosen from the menu of code actions: marked like our own.
      ["singlepass.edit"] = function(command, ctx)
        local client = vim.lsp.get_client_by_id(ctx.client_id)
        if client then
          M.start_job(client, ctx.bufnr or 0, command.arguments)
        end
      end,
    },
    on_attach = attached,
    on_exit = function(_, _, client_id)
      vim.schedule(function()
        ended(client_id)
      end)
    end,
  }
end

--- The root folder of a buffer's project; nil without one, and then the file stands alone.
---@param bufnr integer
---@return string?
local function root(bufnr)
  return vim.fs.root(bufnr, config.current.root_markers)
end

--- Start the server for a buffer, or let the one that runs for its project know it.
---@param bufnr integer
---@return integer? client_id
local function start(bufnr)
  local settings = M.lsp_config()
  if M.is_configured_by_nvim() then
    settings = vim.tbl_deep_extend("force", settings, vim.lsp.config[M.NAME] or {})
  end
  settings.root_dir = root(bufnr)
  return vim.lsp.start(settings, { bufnr = bufnr })
end

---@return boolean
function M.is_configured_by_nvim()
  return compat.has_lsp_config
end

---@param bufnr integer
---@return boolean
local function is_file(bufnr)
  return vim.api.nvim_buf_is_loaded(bufnr) and vim.bo[bufnr].buftype == ""
end

--- Start the server in each buffer of a file from now on.
function M.enable()
  if M.is_configured_by_nvim() then
    local settings = M.lsp_config() --[[@as vim.lsp.Config]]
    settings.root_dir = function(bufnr, start_in)
      if server.find() then -- without it there is nothing to start, and `:Singlepass` says so
        start_in(root(bufnr))
      end
    end
    vim.lsp.config(M.NAME, settings)
    vim.lsp.enable(M.NAME)
    return
  end
  vim.api.nvim_clear_autocmds({ group = group })
  vim.api.nvim_create_autocmd("FileType", {
    group = group,
    pattern = config.current.filetypes or "*",
    callback = function(event)
      if is_file(event.buf) and server.find() then
        start(event.buf)
      end
    end,
  })
  M.start_everywhere()
end

--- Start the server for the buffers that are open already.
function M.start_everywhere()
  local filetypes = config.current.filetypes
  for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do
    local filetype = vim.bo[bufnr].filetype
    local is_wanted = filetype ~= "" and (not filetypes or vim.list_contains(filetypes, filetype))
    if is_file(bufnr) and is_wanted and server.find() then
      start(bufnr)
    end
  end
end

---@param bufnr integer?
---@return vim.lsp.Client? # of this buffer, or of its review
function M.get(bufnr)
  bufnr = (bufnr == nil or bufnr == 0) and vim.api.nvim_get_current_buf() or bufnr
  local id = review.client_id(bufnr)
  return id and vim.lsp.get_client_by_id(id) or vim.lsp.get_clients({ bufnr = bufnr, name = M.NAME })[1]
end

--- The client of a buffer, started if need be.
---@param bufnr integer
---@param callback fun(client: vim.lsp.Client)
function M.ensure(bufnr, callback)
  local client = M.get(bufnr)
  if client then
    return callback(client)
  end
  if not server.find() then
    return M.warn(server.MISSING)
  end
  vim.api.nvim_create_autocmd("LspAttach", {
    buffer = bufnr,
    callback = function(event)
      local found = vim.lsp.get_client_by_id(event.data.client_id)
      if found and found.name == M.NAME then
        callback(found)
        return true
      end
    end,
  })
  start(bufnr)
end

---@param message string
---@param level integer?
function M.warn(message, level)
  vim.notify("singlepass: " .. message, level or vim.log.levels.WARN)
end

--- Run a command of the server's.
---@param client vim.lsp.Client
---@param command string
---@param arguments any[]
---@param callback fun(result: any)?
function M.execute(client, command, arguments, callback)
  local params = { command = command, arguments = arguments }
  compat.request(client, "workspace/executeCommand", params, function(err, result)
    if err then
      M.warn(err.message, vim.log.levels.ERROR)
    elseif callback then
      callback(result)
    end
  end, nil)
end

--- Start a job, and mark the lines it works on.
---@param client vim.lsp.Client
---@param bufnr integer
---@param arguments any[] of `singlepass.edit`
---@param callback fun(job: integer)?
function M.start_job(client, bufnr, arguments, callback)
  bufnr = bufnr == 0 and vim.api.nvim_get_current_buf() or bufnr
  local asked = #arguments == 1 and arguments[1] or { uri = arguments[1], range = arguments[2] }
  local range = asked.range
  local mark = { bufnr = bufnr, id = render.mark_working(bufnr, range.start.line, range["end"].line) }
  local params = { command = "singlepass.edit", arguments = arguments }
  compat.request(client, "workspace/executeCommand", params, function(err, result)
    if err then
      render.unmark_working(mark)
      return M.warn(err.message, vim.log.levels.ERROR)
    end
    -- Its first statuses may have come before the answer; its last cannot have.
    local jobs = state.of(client.id).jobs
    local job = jobs[result.job]
      or { id = result.job, uri = asked.uri, state = "starting", text = "starting" }
    job.mark = mark
    jobs[result.job] = job
    render.tell_working(mark, job.text)
    if callback then
      callback(result.job)
    end
  end, bufnr)
end

--- Other settings for the servers that run and those to come.
---@param settings table
function M.configure(settings)
  config.current.settings = vim.tbl_deep_extend("force", config.current.settings, settings)
  if M.is_configured_by_nvim() then
    vim.lsp.config(M.NAME, {
      init_options = config.current.settings,
      settings = { singlepass = config.current.settings },
    })
  end
  for _, client in ipairs(vim.lsp.get_clients({ name = M.NAME })) do
    client.settings = vim.tbl_deep_extend("force", client.settings or {}, { singlepass = settings })
    client.config.settings = client.settings
    compat.notify(client, "workspace/didChangeConfiguration", { settings = client.settings })
  end
end

--- Stop the servers and start them again in their buffers.
function M.restart()
  local clients = vim.lsp.get_clients({ name = M.NAME })
  local buffers = {} ---@type integer[]
  for _, client in ipairs(clients) do
    vim.list_extend(buffers, vim.tbl_keys(client.attached_buffers))
    compat.stop(client)
  end
  local function again(n_tries)
    if n_tries > 0 and #vim.lsp.get_clients({ name = M.NAME }) > 0 then
      return vim.defer_fn(function()
        again(n_tries - 1)
      end, 50)
    end
    for _, bufnr in ipairs(buffers) do
      if is_file(bufnr) then
        start(bufnr)
      end
    end
  end
  again(200)
end

return M
