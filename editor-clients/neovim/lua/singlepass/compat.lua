--- Where Neovim 0.10 and 0.11 differ.

local M = {}

M.has_lsp_config = vim.fn.has("nvim-0.11") == 1

---@param client vim.lsp.Client
---@param method string
---@param params table
---@param handler fun(err: lsp.ResponseError?, result: any)
---@param bufnr integer?
function M.request(client, method, params, handler, bufnr)
  if M.has_lsp_config then
    client:request(method, params, handler, bufnr)
  else
    client.request(method, params, handler, bufnr)
  end
end

---@param client vim.lsp.Client
---@param method string
---@param params table
function M.notify(client, method, params)
  if M.has_lsp_config then
    client:notify(method, params)
  else
    client.notify(method, params)
  end
end

---@param client vim.lsp.Client
function M.stop(client)
  if M.has_lsp_config then
    client:stop()
  else
    client.stop()
  end
end

---@param client vim.lsp.Client
---@return boolean
function M.is_stopped(client)
  if M.has_lsp_config then
    return client:is_stopped()
  end
  return client.is_stopped()
end

--- Run a command in a terminal in the current window.
---@param command string[]
---@param on_exit fun(code: integer)
function M.terminal(command, on_exit)
  local options = {
    on_exit = function(_, code)
      on_exit(code)
    end,
  }
  if M.has_lsp_config then
    options.term = true
    vim.fn.jobstart(command, options)
  else
    vim.fn.termopen(command, options)
  end
end

return M
