"""Speculative decoding: which tokens are drafted, and how many of them are worth verifying in a pass."""
