"""The language server: documents, context, diffs and workspace edits. It never loads a model."""

__version__ = "0.2.0"
