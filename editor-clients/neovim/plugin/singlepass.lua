if vim.g.loaded_singlepass or vim.fn.has("nvim-0.10") == 0 then
  return
end
vim.g.loaded_singlepass = true

vim.api.nvim_create_user_command("Singlepass", function(args)
  require("singlepass.command").run(args)
end, {
  nargs = "*",
  range = true,
  desc = "edit lines by an instruction, review the hunks",
  complete = function(...)
    return require("singlepass.command").complete(...)
  end,
})
