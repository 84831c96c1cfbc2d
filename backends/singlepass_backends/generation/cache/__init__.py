"""The KV cache: what is reused, kept, evicted and saved on disk, and why a segment was not cached."""
