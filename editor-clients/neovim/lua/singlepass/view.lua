--- Text to look at, in a window of its own that `q` closes.

local M = {}

---@param title string
---@param lines string[]
function M.show(title, lines)
  local bufnr = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, lines)
  vim.bo[bufnr].bufhidden = "wipe"
  vim.bo[bufnr].modifiable = false
  vim.bo[bufnr].filetype = "singlepass-view"
  vim.cmd("botright split")
  vim.api.nvim_win_set_buf(0, bufnr)
  vim.api.nvim_win_set_height(0, math.min(#lines, math.floor(vim.o.lines / 2)))
  vim.wo[0][0].winfixheight = true
  vim.api.nvim_buf_set_name(bufnr, ("singlepass://%s/%d"):format(title, bufnr))
  vim.keymap.set("n", "q", "<Cmd>close<CR>", { buffer = bufnr, nowait = true })
end

return M
