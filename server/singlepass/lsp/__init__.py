"""The language server: LSP over stdio, the handlers, and the composition of all parts."""
