"""The machine: what it has, and how a model is best run on it."""
