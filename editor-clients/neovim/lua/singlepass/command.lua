--- `:Singlepass`: alone it asks for an instruction; with a word of the list below it does that; anything else
--- is the instruction. With a range, everything is.

local M = {}

---@class singlepass.Subcommand
---@field run fun(argument: string?)
---@field takes_argument boolean?
---@field complete (fun(): string[])?

---@type table<string, singlepass.Subcommand>
local subcommands = {}

for _, name in ipairs({
  "keep",
  "undo",
  "keep_all",
  "undo_all",
  "next",
  "previous",
  "cancel",
  "retry",
  "list",
  "context",
  "timings",
  "restart",
  "install",
  "log",
}) do
  subcommands[name] = {
    run = function()
      require("singlepass")[name]()
    end,
  }
end
subcommands.target = {
  run = function(argument)
    require("singlepass").target(argument)
  end,
  takes_argument = true,
}

---@param args { fargs: string[], args: string, range: integer, line1: integer, line2: integer }
function M.run(args)
  local subcommand = args.range == 0 and subcommands[args.fargs[1]] or nil
  local n_arguments = #args.fargs - 1
  if subcommand and n_arguments <= (subcommand.takes_argument and 1 or 0) then
    return subcommand.run(args.fargs[2])
  end
  require("singlepass").edit({
    first = args.range > 0 and args.line1 or nil,
    last = args.range > 0 and args.line2 or nil,
    instruction = args.args ~= "" and args.args or nil,
  })
end

---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  if line:match("^%s*%S*Singlepass%s+%S*$") then
    return vim.tbl_filter(function(name)
      return vim.startswith(name, lead)
    end, vim.fn.sort(vim.tbl_keys(subcommands)))
  end
  return {}
end

return M
