--- Colours, by default those of the colour scheme's diffs. Link the groups elsewhere to change them.

local M = {}

---@type table<string, string>
M.groups = {
  SinglepassAdded = "DiffAdd",
  SinglepassRemoved = "DiffDelete",
  SinglepassAddedSign = "Added",
  SinglepassRemovedSign = "Removed",
  SinglepassPreview = "DiffAdd",
  SinglepassWorking = "CursorLine",
  SinglepassHint = "Comment",
}

function M.define()
  for name, link in pairs(M.groups) do
    vim.api.nvim_set_hl(0, name, { link = link, default = true })
  end
end

return M
