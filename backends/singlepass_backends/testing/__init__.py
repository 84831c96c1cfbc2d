"""Model files for tests and benchmarks. Writing them needs the packages of the extra `models`."""
