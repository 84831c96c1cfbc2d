--- One undo block for each job, though its hunks arrive one by one.
---
--- A hunk joins the block of the one before it when nothing came between the two in the undo tree. What the
--- user typed meanwhile is never joined with ours: then `u` first takes back the hunks after it.

local M = {}

---@class singlepass.UndoBlock
---@field job integer?
---@field seq integer where the undo tree stood after our last edit

---@type table<integer, singlepass.UndoBlock>
local blocks = {}

--- End the block that is open, so that neither typing nor our edit ends up in the other's.
local function close()
  -- As `:help undo-break` has it; without autocommands, because nothing is set.
  vim.cmd("silent noautocmd let &l:undolevels = &l:undolevels")
end

---@param bufnr integer
---@param job integer? nil for an edit that stands for itself
---@param edit fun() changes the buffer
function M.with_block(bufnr, job, edit)
  vim.api.nvim_buf_call(bufnr, function()
    local block = blocks[bufnr]
    close()
    if block and job and block.job == job and vim.fn.undotree().seq_cur == block.seq then
      pcall(vim.cmd.undojoin) -- fails after an undo: then it is a block of its own
    end
    local ok, problem = pcall(edit)
    close()
    blocks[bufnr] = { job = job, seq = vim.fn.undotree().seq_cur }
    if not ok then
      error(problem, 0)
    end
  end)
end

---@param bufnr integer
function M.forget(bufnr)
  blocks[bufnr] = nil
end

return M
