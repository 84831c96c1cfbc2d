"""The sans-IO core: takes snapshots, returns values; no I/O, clock, log or randomness."""
