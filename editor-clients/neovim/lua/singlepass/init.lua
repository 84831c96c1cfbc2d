--- singlepass: a local model's edits, streamed into the buffer and reviewed there. See `:help singlepass`.

local config = require("singlepass.config")

local M = {}

-- Modules that need the editor's LSP client are loaded when they are used: a start costs nothing.
local function client()
  return require("singlepass.client")
end

local function review()
  return require("singlepass.review")
end

--- Start the server in each buffer from now on. See `singlepass.Config` for the options.
---@param options table?
function M.setup(options)
  local problems = config.set(options)
  if #problems > 0 then
    vim.notify("singlepass: " .. table.concat(problems, "; "), vim.log.levels.WARN)
  end
  local highlights = require("singlepass.highlights")
  highlights.define()
  vim.api.nvim_create_autocmd("ColorScheme", {
    group = vim.api.nvim_create_augroup("singlepass.highlights", {}),
    callback = highlights.define,
  })
  client().enable()
end

---@class singlepass.EditOptions
---@field first integer? first line, from 1; without it the cursor's
---@field last integer? last line
---@field instruction string? without it the user is asked
---@field default string? what to begin with when asking
---@field files string[]? paths of more files that may be edited
---@field bufnr integer?

--- Edit lines by an instruction.
---@param options singlepass.EditOptions?
function M.edit(options)
  options = options or {}
  local bufnr = options.bufnr or vim.api.nvim_get_current_buf()
  local line = vim.api.nvim_win_get_cursor(0)[1]
  local first = options.first or line
  local last = options.last or options.first
  local uri = vim.uri_from_bufnr(bufnr)
  local range = {
    start = { line = first - 1, character = 0 },
    ["end"] = { line = last or first - 1, character = 0 },
  }
  local files = vim.tbl_map(function(path)
    return vim.uri_from_fname(vim.fn.fnamemodify(path, ":p"))
  end, options.files or {})
  local function ask(instruction)
    client().ensure(bufnr, function(found)
      local asked = { uri = uri, range = range, instruction = instruction, files = files }
      client().start_job(found, bufnr, { asked })
    end)
  end
  if options.instruction then
    return ask(options.instruction)
  end
  local name = vim.fn.fnamemodify(vim.api.nvim_buf_get_name(bufnr), ":t")
  local lines = last and last > first and ("%d–%d"):format(first, last) or tostring(first)
  local title = ("%s:%s"):format(name ~= "" and name or "singlepass", lines)
  local render = require("singlepass.render")
  local mark = { bufnr = bufnr, id = render.mark_working(bufnr, first - 1, last or first) }
  require("singlepass.prompt").ask(title, options.default or "", function(instruction)
    render.unmark_working(mark)
    if instruction then
      ask(instruction)
    end
  end)
end

--- Run a command of the server of this buffer, or of the one that has hunks in review.
---@param command string
---@param arguments any[]
---@param callback fun(result: any)?
local function execute(command, arguments, callback)
  local found = client().get(0)
  if not found then
    local place = review().list()[1]
    found = place and client().get(place.bufnr) or vim.lsp.get_clients({ name = client().NAME })[1]
  end
  if not found then
    return client().warn("no server runs for this buffer")
  end
  client().execute(found, command, arguments, callback)
end

--- Stop the job of this buffer; without one, all jobs.
function M.cancel()
  local found = client().get(0)
  local state = require("singlepass.state")
  local uri = vim.uri_from_bufnr(0)
  local id ---@type integer?
  for _, job in pairs(found and state.of(found.id).jobs or {}) do
    id = job.uri == uri and job.id or id
  end
  execute("singlepass.cancel", { id })
end

--- What an answer to `singlepass.undo` means.
---@param result { undone: integer, changed: integer }
local function tell_undone(result)
  if result.changed > 0 then
    local what = result.changed == 1 and "1 hunk was" or ("%d hunks were"):format(result.changed)
    client().warn(what .. " changed since, and stay")
  end
end

---@param command string
---@param callback fun(result: any)?
local function at_cursor(command, callback)
  local bufnr = vim.api.nvim_get_current_buf()
  local place = review().at(bufnr, vim.api.nvim_win_get_cursor(0)[1])
  if not place then
    return client().warn("no hunk at the cursor")
  end
  execute(command, { { uri = vim.uri_from_bufnr(bufnr), hunk = place.id } }, callback)
end

--- Keep the hunk at the cursor.
function M.keep()
  at_cursor("singlepass.keep")
end

--- Undo the hunk at the cursor.
function M.undo()
  at_cursor("singlepass.undo", tell_undone)
end

--- Keep every hunk in review, in all buffers.
function M.keep_all()
  execute("singlepass.keep", {})
end

--- Undo every hunk in review, in all buffers.
function M.undo_all()
  execute("singlepass.undo", {}, tell_undone)
end

--- Go to the next hunk.
function M.next()
  if not review().jump() then
    client().warn("no hunks in review")
  end
end

--- Go to the previous hunk.
function M.previous()
  if not review().jump(true) then
    client().warn("no hunks in review")
  end
end

--- Undo the last job and ask again, beginning with its instruction.
function M.retry()
  execute("singlepass.retry", {}, function(asked)
    local bufnr = vim.uri_to_bufnr(asked.uri)
    if bufnr ~= vim.api.nvim_get_current_buf() then
      vim.cmd.buffer(bufnr)
    end
    local first, last = asked.range.start.line + 1, asked.range["end"].line
    vim.api.nvim_win_set_cursor(0, { math.min(first, vim.api.nvim_buf_line_count(bufnr)), 0 })
    M.edit({
      first = first,
      last = last >= first and last or nil,
      default = asked.instruction,
      files = vim.tbl_map(vim.uri_to_fname, asked.files or {}),
    })
  end)
end

--- The hunks in review as a quickfix list.
function M.list()
  local items = vim.tbl_map(function(place)
    return {
      bufnr = place.bufnr,
      lnum = math.min(place.first, vim.api.nvim_buf_line_count(place.bufnr)),
      end_lnum = math.max(place.first, place.last),
      text = ("-%d +%d  %s"):format(#place.old, #place.new, vim.trim(place.new[1] or place.old[1] or "")),
    }
  end, review().list())
  vim.fn.setqflist({}, " ", { title = "singlepass: hunks in review", items = items })
  if #items > 0 then
    vim.cmd.copen()
  else
    client().warn("no hunks in review")
  end
end

---@class singlepass.ListedTarget
---@field name string
---@field model string
---@field backend string
---@field remote boolean
---@field allowed boolean

--- Choose the target by name; `auto` leaves it to rules and estimates. Without a name the user is asked.
---@param name string?
function M.target(name)
  local function select(chosen)
    execute("singlepass.selectTarget", { chosen == "auto" and vim.NIL or chosen }, function(found)
      local selected = found.selected
      client().warn(
        selected and selected ~= vim.NIL and ("target: %s"):format(selected)
          or "the target is chosen for each request",
        vim.log.levels.INFO
      )
    end)
  end
  if name then
    return select(name)
  end
  execute("singlepass.selectTarget", {}, function(found)
    local about = { auto = "auto: by rules and estimates" } ---@type table<string, string>
    local names = { "auto" }
    for _, target in ipairs(found.targets --[[@as singlepass.ListedTarget[] ]]) do
      names[#names + 1] = target.name
      about[target.name] = ("%s: %s%s"):format(
        target.name,
        target.model ~= "" and vim.fs.basename(target.model) or target.backend,
        target.remote and (target.allowed and ", remote" or ", remote, not allowed here") or ""
      )
    end
    local options = {
      prompt = "singlepass: target",
      format_item = function(item)
        return about[item] .. ((found.selected == item) and " (selected)" or "")
      end,
    }
    vim.ui.select(names, options, function(chosen)
      if chosen then
        select(chosen)
      end
    end)
  end)
end

--- Show what stands in the prompt of this buffer, with its tokens.
function M.context()
  execute("singlepass.context", { vim.uri_from_bufnr(0) }, function(found)
    local total = 0
    local lines = {}
    for _, segment in ipairs(found.segments) do
      total = total + segment.n_tokens
      local cached = segment.n_cached >= segment.n_tokens and "cached"
        or segment.n_cached > 0 and ("%d cached"):format(segment.n_cached)
        or ""
      lines[#lines + 1] = ("%8d  %-10s %s"):format(segment.n_tokens, cached, segment.name)
    end
    local where = found.target and found.target.url ~= "" and ("  sent to %s"):format(found.target.url) or ""
    table.insert(lines, 1, ("%d of %d tokens of context%s"):format(total, found.n_ctx, where))
    for _, name in ipairs(found.left_out or {}) do
      lines[#lines + 1] = ("%8s  %-10s %s"):format("", "left out", name)
    end
    require("singlepass.view").show("context", lines)
  end)
end

--- Show what the last jobs cost.
function M.timings()
  local found = client().get(0)
  local results = found and require("singlepass.state").of(found.id).results or {}
  local lines = {}
  for number = #results, 1, -1 do
    lines[#lines + 1] = ("%s: %s"):format(results[number].title, results[number].message)
  end
  require("singlepass.view").show("timings", #lines > 0 and lines or { "no job has ended yet" })
end

--- Other settings of the server, at once, for as long as the editor runs.
---@param settings table
function M.configure(settings)
  client().configure(settings)
end

--- Stop the server and start it again.
function M.restart()
  client().restart()
end

--- Install the server into a folder of its own.
function M.install()
  require("singlepass.server").install()
end

--- Open the log of Neovim's language servers, which has ours.
function M.log()
  vim.cmd.split(vim.fn.fnameescape(vim.lsp.get_log_path()))
end

--- For statuslines: what the server does for a buffer, such as `warm · 0.2 s + 61 tok/s`; empty without one.
---@param bufnr integer? the current one by default
---@return string
function M.status(bufnr)
  if not package.loaded["singlepass.client"] then
    return ""
  end
  local found = client().get(bufnr)
  if not found then
    return ""
  end
  local state = require("singlepass.state").of(found.id)
  local n_hunks = review().count(bufnr == nil and vim.api.nvim_get_current_buf() or bufnr)
  if n_hunks > 0 and next(state.jobs) == nil then
    return ("%s · %s to review"):format(state.status.text, n_hunks == 1 and "1 hunk" or n_hunks .. " hunks")
  end
  return state.status.text
end

return M
