"""The engine: one process per user and target that owns a model and its KV cache.

The server imports only `wire`, `client` and `base` of this package; none of the three loads a model runtime.
"""

__version__ = "0.2.0"
