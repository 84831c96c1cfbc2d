"""What every in-process model shares: the generation loop, prefix reuse, constraint and prompt rendering."""
