--- `workspace/applyEdit`, as singlepass needs it. Neovim's own handler answers that an edit was applied when it
--- has left it out because the buffer is newer; here it is refused, so that the server plans it anew.

local state = require("singlepass.state")
local undo = require("singlepass.undo")

local M = {}

---@class singlepass.DocumentEdit
---@field uri string
---@field version integer?
---@field edits table[]

---@param edit table a WorkspaceEdit
---@return singlepass.DocumentEdit[]? # nil where it does more than edit text
local function documents(edit)
  local found = {} ---@type singlepass.DocumentEdit[]
  if edit.documentChanges then
    for _, change in ipairs(edit.documentChanges) do
      if change.kind then
        return nil
      end
      local version = change.textDocument.version
      found[#found + 1] = {
        uri = change.textDocument.uri,
        version = version ~= vim.NIL and version or nil,
        edits = change.edits,
      }
    end
    return found
  end
  for uri, edits in pairs(edit.changes or {}) do
    found[#found + 1] = { uri = uri, edits = edits }
  end
  return found
end

--- The version that the server was told last, or is about to be told.
---@param bufnr integer
---@return integer?
function M.version(bufnr)
  return rawget(vim.lsp.util.buf_versions, bufnr)
end

--- Whether the user agrees, where the server wants to be sure.
---@param edit table
---@param label string
---@return boolean
local function confirmed(edit, label)
  local asked = vim.iter(vim.tbl_values(edit.changeAnnotations or {})):find(function(annotation)
    return annotation.needsConfirmation
  end)
  if not asked then
    return true
  end
  local question = ("%s: %s. Apply it?"):format(label, asked.description or asked.label)
  return vim.fn.confirm(question, "&Apply\n&Discard", 1) == 1
end

---@param message string
local function refuse(message)
  return { applied = false, failureReason = message }
end

---@param bufnr integer
---@return string? problem
local function unwritable(bufnr)
  if not vim.bo[bufnr].modifiable then
    return "'modifiable' is off for " .. vim.api.nvim_buf_get_name(bufnr)
  end
end

--- Neovim makes a line end at the end of the buffer into an empty line more, where an edit adds lines behind the
--- last one.
---@param bufnr integer
---@param edits table[]
local function fit_end(bufnr, edits)
  local n = vim.api.nvim_buf_line_count(bufnr)
  for _, edit in ipairs(edits) do
    if edit.range.start.line >= n then
      edit.newText = edit.newText:gsub("\r?\n$", "")
    end
  end
end

--- Tell the server of the edit now, and not after the pause that Neovim makes between two notifications of
--- changes: every notification sends what waits, and this one changes nothing.
---@param client vim.lsp.Client
local function flush(client)
  require("singlepass.compat").notify(client, "$/setTrace", { value = "off" })
end

---@param params { label: string?, edit: table }
---@param ctx { client_id: integer }
---@return { applied: boolean, failureReason: string? }
function M.handler(_, params, ctx)
  local client = assert(vim.lsp.get_client_by_id(ctx.client_id))
  local changes = documents(params.edit)
  if not changes then
    return refuse("only text edits are supported")
  end
  if not confirmed(params.edit, params.label or "singlepass") then
    return refuse("it was not confirmed")
  end
  for _, change in ipairs(changes) do
    local bufnr = vim.uri_to_bufnr(change.uri)
    vim.fn.bufload(bufnr)
    local now = M.version(bufnr)
    if change.version and now and now > change.version then
      flush(client)
      return refuse("the document has changed")
    end
    local problem = unwritable(bufnr)
    if problem then
      return refuse(problem)
    end
  end
  for _, change in ipairs(changes) do
    local bufnr = vim.uri_to_bufnr(change.uri)
    local ok, problem = pcall(undo.with_block, bufnr, state.job_for(client.id, change.uri), function()
      fit_end(bufnr, change.edits)
      vim.lsp.util.apply_text_edits(change.edits, bufnr, client.offset_encoding)
    end)
    if not ok then
      return refuse(tostring(problem))
    end
  end
  flush(client)
  return { applied = true }
end

return M
