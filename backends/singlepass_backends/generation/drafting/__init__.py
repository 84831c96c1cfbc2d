"""Speculative decoding: which tokens are drafted, and how many of them are verified in a pass."""
