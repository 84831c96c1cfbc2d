"""The KV cache: what to keep of it, what of it is saved on disk, and why a segment was not in it."""
