-- For `vim.lsp.enable("singlepass")` without `setup()`, on Neovim 0.11 and later.
require("singlepass.highlights").define()
return require("singlepass.client").lsp_config()
